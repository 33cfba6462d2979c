"""Which calls can wait without their caller."""

from __future__ import annotations

from dataclasses import replace

import pytest

from discovery.exchange import Header, Request
from policies.actions import Call
from policies.claims import Credentials
from policies.credentials import carried, is_signed, keeping

TOKEN: Header = (b"authorization", b"Bearer t")


def call(*secret: Header, target: bytes = b"/x") -> Call:
    frozen = Request("POST", target, ((b"accept", b"*/*"),), b"")
    return Call("00", "u", replace(frozen, headers=(*frozen.headers, *secret)), frozen, "fp", 30.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Authorization", b"AWS4-HMAC-SHA256 Credential=a, Signature=b"),
        (b"authorization", b'Signature keyId="a"'),
        (b"authorization", b'OAuth oauth_consumer_key="a", oauth_nonce="b"'),
        (b"authorization", b'Digest username="a"'),
        (b"Signature-Input", b"sig=()"),
        (b"x-ms-date", b"Mon, 1 Jan 2026"),
    ],
)
def test_a_request_signed_over_its_time_needs_its_caller(name: bytes, value: bytes):
    signed = call((name, value))

    assert is_signed(signed.request)
    assert keeping(signed) == (Credentials.CALLER, ())


def test_a_signature_in_the_query_is_one():
    assert is_signed(call(target=b"/x?X-Amz-Signature=abc").request)
    assert carried(call(target=b"/x?X-Amz-Signature=abc")) is Credentials.CALLER


def test_a_bearer_token_is_kept_while_the_call_waits_unless_the_store_has_no_key():
    assert not is_signed(call(TOKEN).request)
    assert keeping(call(TOKEN)) == (Credentials.KEPT, (TOKEN,))
    assert keeping(replace(call(TOKEN), keeps=False)) == (Credentials.CALLER, ())


def test_a_call_that_carries_nothing_needs_nobody():
    assert carried(call()) is Credentials.NONE
    assert keeping(call()) == (None, ())
    assert keeping(replace(call(TOKEN), attended=False)) == (None, ())
