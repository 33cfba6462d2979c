"""Tokens: made once, kept from others, compared whole."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.problems import ConfigError, Refused
from gateway.tokens import admin_token, bearer, caller_of, capability, opens, signing_key, signing_keys


def test_the_admin_token_is_made_once_and_is_its_owners_alone(tmp_path):
    data = tmp_path / "new" / "data"

    token = admin_token(data)

    assert len(token) >= 32
    assert admin_token(data) == token
    assert stat.S_IMODE((data / "admin-token").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_starts_at_once_agree_on_one_token(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(admin_token, [tmp_path] * 64))

    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["admin-token"]


def test_a_token_that_others_can_read_is_refused(tmp_path):
    token = admin_token(tmp_path)
    (tmp_path / "admin-token").chmod(0o640)

    with pytest.raises(Refused, match="others can read it") as refused:
        admin_token(tmp_path)

    assert token not in str(refused.value)


def test_a_file_that_is_no_token_is_told_with_its_cure(tmp_path):
    path = tmp_path / "admin-token"
    path.touch(mode=0o600)

    with pytest.raises(Refused, match="delete it"):
        admin_token(tmp_path)

    path.write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match="admin-token"):
        admin_token(tmp_path)


def test_a_capability_opens_its_call_alone(tmp_path):
    key = signing_key(tmp_path, None)
    token = capability(key, "call-1")

    assert opens(key, "call-1", token)
    assert not opens(key, "call-2", token)
    assert not opens(key, "call-1", "")
    assert not opens(key, "call-1", token[:-1])
    assert not opens(key, "call-1", "é" + token)
    assert not opens(signing_key(tmp_path, "another key"), "call-1", token)


def test_replicas_with_one_key_open_each_others_capabilities(tmp_path):
    one, other = signing_key(tmp_path / "a", "shared"), signing_key(tmp_path / "b", "shared")

    assert opens(one, "call-1", capability(other, "call-1"))
    assert signing_key(tmp_path / "a", None) != signing_key(tmp_path / "b", None)


def test_a_bearer_token_is_read_and_nothing_else():
    assert bearer(b"Bearer abc") == "abc"
    assert bearer(b"bearer  abc ") == "abc"
    assert bearer(b"Basic abc") is None
    assert bearer(b"Bearer") is None
    assert bearer(None) is None


def test_a_caller_is_known_by_its_token():
    callers = {"orders": "token-of-orders", "mail": "token-of-mail"}

    assert caller_of("token-of-mail", callers) == "mail"
    assert caller_of("token-of", callers) is None
    assert caller_of(None, callers) is None
    assert caller_of("", {}) is None


def test_a_capability_of_the_key_before_opens_after_a_rotation(tmp_path):
    before = capability(signing_key(tmp_path, "old"), "call-1")
    newest, *earlier = signing_keys(tmp_path, "new, old")

    assert newest == signing_key(tmp_path, "new")
    assert [opens(key, "call-1", before) for key in (newest, *earlier)] == [False, True]
