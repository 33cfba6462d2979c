"""What is sealed opens with the right key in the right place, and only there."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.problems import ConfigError, LedgerUnavailable
from gateway.vault import KEY_BYTES, Vault, load_or_make_key

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES


def test_what_is_sealed_opens_in_its_place_and_hides_its_text():
    sealed = Vault([NEW]).seal(b"plain text", "call request")

    assert b"plain" not in sealed
    assert Vault([NEW]).open(sealed, "call request") == b"plain text"


def test_the_same_text_is_never_sealed_alike():
    vault = Vault([NEW])

    assert vault.seal(b"x", "p") != vault.seal(b"x", "p")


@pytest.mark.parametrize("place", ["call reply", "other request", ""])
def test_a_value_moved_elsewhere_does_not_open(place: str):
    sealed = Vault([NEW]).seal(b"x", "call request")

    with pytest.raises(LedgerUnavailable, match="was changed"):
        Vault([NEW]).open(sealed, place)


def test_a_changed_or_cut_value_does_not_open():
    vault = Vault([NEW])
    sealed = vault.seal(b"x", "p")

    for broken in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:10]):
        with pytest.raises(LedgerUnavailable):
            vault.open(broken, "p")


def test_after_a_rotation_old_values_open_and_new_ones_need_the_new_key():
    before, during = Vault([OLD]), Vault([NEW, OLD])

    assert during.open(before.seal(b"x", "p"), "p") == b"x"
    with pytest.raises(LedgerUnavailable, match="another key"):
        before.open(during.seal(b"x", "p"), "p")


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"short"]])
def test_keys_of_another_length_are_refused(keys: list[bytes]):
    with pytest.raises(ConfigError):
        Vault(keys)


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path):
    path = tmp_path / "new" / "key"

    key = load_or_make_key(path)

    assert len(key) == KEY_BYTES and load_or_make_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_many_that_start_at_once_agree_on_the_key(tmp_path: Path):
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: load_or_make_key(tmp_path / "key"), range(64)))

    assert len(keys) == 1


def test_a_torn_key_is_not_replaced(tmp_path: Path):
    path = tmp_path / "key"
    path.write_bytes(b"torn")

    with pytest.raises(ConfigError, match="restore it"):
        load_or_make_key(path)
    assert path.read_bytes() == b"torn"
