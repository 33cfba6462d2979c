# ruff: noqa: SIM905 (a list of words reads best as words)
"""What is a secret is hidden wherever it stands; what is none is shown as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.redaction import (
    HIDDEN,
    is_secret_name,
    redact_body,
    redact_headers,
    redact_json,
    redact_query,
    redact_text,
)

SECRET_NAMES = """Authorization Proxy-Authorization X-Api-Key apiKey api_key APIKEY x-auth-token accessToken
access_token password user[password] newPassword client_secret X-Amz-Signature sig sessionId private_key
set-cookie csrf_token cvc card_number otp verification_code""".split()

OPEN_NAMES = """page_token nextPageToken max_tokens total_tokens token_type token_expires_at password_policy
key name id pinned author signal monkey design keyboard sync_token prompt_tokens
Idempotency-Key pinning shipping""".split()


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_that_holds_a_secret_is_known_in_any_spelling(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OPEN_NAMES)
def test_a_name_that_only_sounds_like_a_secret_stays_open(name: str) -> None:
    assert not is_secret_name(name)


def test_headers_keep_the_scheme_and_the_names_of_cookies() -> None:
    headers = ((b"Authorization", b"Bearer abc.def"), (b"Cookie", b"sid=1; theme=dark"), (b"Accept", b"*/*"))

    shown = redact_headers(headers)

    assert shown == (
        (b"Authorization", b"Bearer [redacted]"),
        (b"Cookie", b"sid=[redacted]; theme=[redacted]"),
        (b"Accept", b"*/*"),
    )


def test_a_credential_without_a_scheme_is_hidden_whole() -> None:
    assert redact_headers(((b"authorization", b"s3cr3t"),)) == ((b"authorization", b"[redacted]"),)


def test_secret_query_parameters_are_hidden_and_others_untouched() -> None:
    target = b"/v1/items?page_token=abc&api_key=12345&q=a%20b"

    assert redact_query(target) == b"/v1/items?page_token=abc&api_key=[redacted]&q=a%20b"


def test_numbers_and_lists_under_a_secret_name_are_hidden_too() -> None:
    body = {"pin": 1234, "secrets": ["a", {"b": "c"}], "verified": True, "pages": 7}

    assert redact_json(body) == {
        "pin": HIDDEN,
        "secrets": [HIDDEN, {"b": HIDDEN}],
        "verified": True,
        "pages": 7,
    }


def test_a_pair_of_name_and_value_is_read_as_one() -> None:
    assert redact_json([{"name": "password", "value": "hunter2"}]) == [{"name": "password", "value": HIDDEN}]


SECRET_TEXTS = [
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----",
    "sk_live_" + "a1B2" * 6,
    "4242 4242 4242 4242",
    "postgres://admin:hunter2@db/main",
    "https://files.example/a?signature=deadbeef&page=2",
    "Basic dXNlcjpwYXNzd29yZA==",
]


@pytest.mark.parametrize("text", SECRET_TEXTS)
def test_a_text_with_the_form_of_a_secret_is_hidden_under_any_name(text: str) -> None:
    assert HIDDEN in redact_text(text)


@pytest.mark.parametrize("text", ["1522929456142245888", "2026-11-22T17:12:24Z", "https://a.example/b?page=2"])
def test_ids_times_and_links_are_shown(text: str) -> None:
    assert redact_text(text) == text


def test_bodies_are_read_for_what_they_are() -> None:
    form = ((b"content-type", b"application/x-www-form-urlencoded"),)
    xml = b'<a><Password kind="x">p</Password><b token="q">ok</b></a>'

    assert redact_body((), json.dumps({"password": "x"}).encode()) == {"password": HIDDEN}
    assert redact_body(form, b"user=me&password=x") == {"user": "me", "password": HIDDEN}
    assert redact_body((), xml) == '<a><Password kind="x">[redacted]</Password><b token="[redacted]">ok</b></a>'
    assert redact_body((), b"\x00\x01\x02" * 10) == "<30 bytes>"
    assert redact_body((), b"") == ""


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_redaction_is_settled_after_one_pass(value: object) -> None:
    once = redact_json(value)

    assert redact_json(once) == once
