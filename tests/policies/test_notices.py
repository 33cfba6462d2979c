"""Signed notices: the signature, the callback a type has, and what a receiver's answer means."""

from __future__ import annotations

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from policies.notices import Receiver, callback_of, key_of, read_receipt, signature, signed
from policies.outcome import Outcome

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_standard_webhooks():
    # The example of the specification's reference libraries.
    made = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_sending_is_signed_for_its_own_time_under_the_same_id():
    request = Request("POST", b"/hook", ((b"content-type", b"application/json"),), b"{}")

    first, second = (dict(signed(request, SECRET, "msg", date).headers) for date in (100.9, 105.0))

    assert (first[b"webhook-id"], first[b"webhook-timestamp"]) == (b"msg", b"100")
    assert second[b"webhook-id"] == b"msg"
    assert first[b"webhook-signature"] != second[b"webhook-signature"]


def test_a_secret_is_text_or_base64_behind_its_prefix_and_never_in_a_repr():
    assert key_of("plain text") == b"plain text"
    assert key_of("whsec_AAEC") == b"\x00\x01\x02"
    with pytest.raises(ValueError, match="no base64"):
        key_of("whsec_%")
    assert SECRET not in repr(Receiver("callback:default", "https://a.test", SECRET))


@pytest.mark.parametrize(
    ("type", "known", "told"),
    [
        ("sync", ["callback:sync", "callback:default"], "callback:sync"),
        ("other", ["callback:sync", "callback:default"], "callback:default"),
        ("other", ["callback:sync"], None),
    ],
)
def test_a_type_has_its_own_callback_or_the_default_one(type: str, known: list[str], told: str | None):
    assert callback_of(type, known) == told


@pytest.mark.parametrize(
    ("answer", "outcome", "wait"),
    [
        (Response(204), Outcome.SUCCESS, None),
        (Fault(Phase.BODY, "too long", 200), Outcome.SUCCESS, None),
        (Response(410), Outcome.REFUSED, None),
        (Response(302), Outcome.TRANSIENT, None),
        (Response(401), Outcome.TRANSIENT, None),
        (Response(429, ((b"retry-after", b"7"),)), Outcome.TRANSIENT, 7.0),
        (Fault(Phase.WAIT, "closed"), Outcome.TRANSIENT, None),
    ],
)
def test_only_2xx_takes_a_notice_and_only_410_ends_it(
    answer: Response | Fault, outcome: Outcome, wait: float | None
):
    reading = read_receipt(answer, 0.0)

    assert (reading.outcome, reading.wait) == (outcome, wait)
