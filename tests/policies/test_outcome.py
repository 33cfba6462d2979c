"""What answers mean, in any dialect; every reading has an honest effect and a why.

`fixtures/outcomes/dialects.jsonl` holds exchanges in the manner of some hundred APIs, written for this test:
`outcome` and `effect` list what is a fair reading; `fields` and `items` are complete.
"""

import json
from pathlib import Path

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from gateway.recordings import read_exchange
from policies.explain import explain
from policies.outcome import Effect, Outcome, classify
from policies.verdicts import tells_of_success

NOW = 1_700_000_000.0
DIALECTS = Path(__file__).parents[2] / "fixtures" / "outcomes" / "dialects.jsonl"
CASES = [json.loads(line) for line in DIALECTS.read_text(encoding="utf-8").splitlines()]
JSON = ((b"Content-Type", b"application/json"),)


def post(body=b"{}", headers=JSON):
    return Request("POST", b"/orders", headers, body)


def answer(status, body=b"", *headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, (*JSON, *headers), text)


def read(status, body=b"", *headers, request=None):
    return classify(request or post(), answer(status, body, *headers), NOW)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_dialect_is_read_as_what_it_means(case):
    expected = case["expected"]

    told = explain(read_exchange(case["exchange"]), NOW)

    assert told["outcome"] in expected["outcome"], told["why"]
    assert told["effect"] in expected["effect"], told["why"]
    assert told["why"]
    if "retry" in expected:
        assert told["retry"] in expected["retry"]
    if "retry_after" in expected:
        assert told["retry_after"] == expected["retry_after"]
    if "fields" in expected:
        named = {f["pointer"]: f["reason"] for f in told["fields"] if f.get("in", "body") in ("body", "query")}
        assert named == expected["fields"]
    if "items" in expected:
        items = {key: [i["ok"], i["retry"]] for i in told["items"] for key in (i["key"], i["index"])}
        assert {key: items.get(key) for key, *_ in expected["items"]} == {
            k: rest for k, *rest in expected["items"]
        }


# Faults


@pytest.mark.parametrize("phase", Phase)
def test_only_a_request_that_never_left_had_no_effect_for_sure(phase):
    reading = classify(post(), Fault(phase, "broken"), NOW)

    unsent = phase in (Phase.NAME, Phase.CONNECT, Phase.TLS, Phase.POOL, Phase.UNSENT)
    assert reading.outcome is Outcome.TRANSIENT
    assert reading.effect is (Effect.NONE if unsent else Effect.UNKNOWN)


# Effects are never guessed


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", {"error": "no such record"}, {"message": "email is invalid"}]
)
def test_a_server_that_failed_while_changing_something_may_have_changed_it(status, body):
    reading = read(status, body)

    assert (reading.outcome, reading.effect) == (Outcome.TRANSIENT, Effect.UNKNOWN)


def test_a_503_that_says_when_to_come_back_did_nothing():
    reading = read(503, b"", (b"Retry-After", b"30"))

    assert (reading.outcome, reading.effect, reading.wait) == (Outcome.TRANSIENT, Effect.NONE, 30)


def test_a_denied_success_that_failed_inside_the_server_may_have_taken_effect():
    reading = read(200, {"ok": False, "error": "internal_error"})

    assert (reading.outcome, reading.effect) == (Outcome.TRANSIENT, Effect.UNKNOWN)


def test_what_a_server_says_of_repeating_is_kept():
    assert read(500, b"", (b"Stripe-Should-Retry", b"false")).repeat is False
    assert read(409, b"", (b"Stripe-Should-Retry", b"true")).repeat is True
    assert read(503, b"", (b"grpc-retry-pushback-ms", b"-1")).repeat is False
    assert read(500).repeat is None


# Success that looks like failure


@pytest.mark.parametrize(
    "body",
    [
        {"id": 1, "status": "failed", "error": "disk full"},
        {"error": None, "errors": [], "result": 1},
        {"errcode": 0, "errmsg": "ok"},
        {"code": "00000", "message": "success", "data": {}},
        {"status": {"code": "1", "message": "completed"}},
        {"success": "true", "error": ""},
        {"data": [{"error": "x", "status": "error"}], "total": 1},
        {"message": "Your error report was received"},
        {"id": "c1", "code": "SAVE10", "type": "error"},
        [],
        {},
        "ok",
    ],
)
def test_words_in_data_deny_nothing(body):
    reading = classify(Request("GET", b"/things"), answer(200, body), NOW)

    assert (reading.outcome, reading.effect) == (Outcome.SUCCESS, Effect.ALL)


# When to come back


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([(b"Retry-After", b"120")], 120),
        ([(b"retry-after", b"1.5")], 1.5),
        ([(b"Retry-After", b"Tue, 14 Nov 2023 22:14:20 GMT")], 60),
        ([(b"Retry-After", b"Tue, 14 Nov 2023 22:00:00 GMT")], 0),
        ([(b"Retry-After", b"315360000")], 315360000),
        ([(b"Retry-After", b"-5")], None),
        ([(b"Retry-After", b"soon")], None),
        ([(b"Retry-After", b"9" * 400)], None),
        ([(b"x-amz-retry-after", b"1500")], 1.5),
        ([(b"grpc-retry-pushback-ms", b"250")], 0.25),
        ([(b"RateLimit", b'"default";r=0;t=12')], 12),
        ([(b"RateLimit", b'"a";r=5;t=90, "b";r=0;t=7')], 7),
        ([(b"RateLimit", b"limit=100, remaining=0, reset=50")], 50),
        ([(b"RateLimit-Remaining", b"0"), (b"RateLimit-Reset", b"9")], 9),
        ([(b"X-RateLimit-Remaining", b"0"), (b"X-RateLimit-Reset", b"1700000030")], 30),
        ([(b"X-RateLimit-Remaining", b"0"), (b"X-RateLimit-Reset", b"1700000030000")], 30),
        ([(b"X-RateLimit-Remaining", b"3"), (b"X-RateLimit-Reset", b"30")], None),
        ([(b"Retry-After", b"5"), (b"RateLimit", b'"x";r=0;t=50')], 5),
        ([], None),
    ],
)
def test_every_form_of_a_stated_wait_is_read_in_seconds(headers, wait):
    reading = read(429, b"", *headers)

    assert (reading.outcome, reading.wait) == (Outcome.RATE_LIMITED, wait)


# Bad input


HOSTILE = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"a":' * 900 + b"1" + b"}" * 900,
    "broken": b'{"ok": fal',
    "half gzip": b"\x1f\x8b\x08\x00\x00\x00",
    "bomb": b'<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
    "not text": bytes(range(256)) * 50,
    "surrogates": b'{"error": "\\ud800", "message": "\\udfff"}',
    "numbers": b'{"code": 1' + b"0" * 5000 + b', "error": NaN}',
    "twice": b'{"error": "x", "error": null}',
    "quotes": b'{"message": "' + b"'a" * 5000 + b'"}',
    "parens": b'{"message": "' + b"field (" * 1000 + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("status", [200, 207, 400, 422, 500])
@pytest.mark.parametrize(
    "media", [b"application/json", b"text/xml", b"text/plain", b"multipart/mixed; boundary=x"]
)
def test_no_body_is_an_exception(name, status, media):
    reading = classify(post(), Response(status, ((b"Content-Type", media),), HOSTILE[name]), NOW)

    assert reading.why


@pytest.mark.parametrize("name", ["deep", "deep and closed", "bomb"])
def test_a_success_with_a_hostile_body_is_believed_of_a_read_and_doubted_of_a_write(name):
    got = answer(200, HOSTILE[name])

    assert classify(Request("GET", b"/"), got, NOW).outcome is Outcome.SUCCESS
    assert classify(post(), got, NOW).outcome is Outcome.IN_DOUBT
    assert classify(post(), got, NOW).effect is Effect.UNKNOWN


def test_one_success_among_a_thousand_equal_failures_of_an_error_is_seen():
    failed = {"code": "out_of_range", "ok": 1}
    told = {"results": [failed] * 1000 + [{"code": "out_of_range", "ok": True}]}

    assert tells_of_success(told)
    assert not tells_of_success({"results": [failed] * 1000})
    assert tells_of_success({"results": [{"status": "failed"}] * 1000 + [{"status": "created"}]})


# Answers that are no envelope: texts, lists, a fault for a root


@pytest.mark.parametrize(
    "text",
    ["ERROR: no such user", "FAILED", "err 105, bad number", "401,Invalid user", "Status=INVALID\r\nDetail=x\r\n"],
)
def test_a_text_that_opens_with_a_word_of_failure_is_no_success(text):
    told = classify(post(), Response(200, ((b"Content-Type", b"text/plain"),), text.encode()), NOW)

    assert told.outcome in (Outcome.REFUSED, Outcome.VALIDATION)
    assert told.effect is Effect.NONE


@pytest.mark.parametrize(
    "text", ["OK", "failure-prone", "id,error\n1,none\n", "OK: 83472", "Status=OK\r\nDetail=x\r\n"]
)
def test_a_text_that_only_holds_such_a_word_is_a_success(text):
    told = classify(post(), Response(200, ((b"Content-Type", b"text/plain"),), text.encode()), NOW)

    assert told.outcome is Outcome.SUCCESS


def test_a_list_of_nothing_but_failures_is_no_success_where_the_request_lists_nothing():
    assert (
        read(200, {"messages": [{"status": "2", "error-text": "Missing to param"}]}).outcome is Outcome.VALIDATION
    )
    assert read(200, {"messages": [{"status": "0", "id": "m-1"}]}).outcome is Outcome.SUCCESS


def test_a_job_that_failed_was_read_well_and_a_request_that_failed_was_not():
    job = {"uid": 1, "status": "failed", "error": {"code": "x", "message": "no such index", "type": "y"}}

    assert classify(Request("GET", b"/tasks/1"), answer(200, job), NOW).outcome is Outcome.SUCCESS


def test_an_error_that_says_of_an_item_that_it_is_done_is_partial_and_one_that_names_failures_is_not():
    request = post(b'{"items": [{"id": "a"}, {"id": "b"}]}')
    told = [{"id": "a", "status": "success"}, {"id": "b", "status": "error", "message": "no"}]

    assert read(400, {"items": told}, request=request).outcome is Outcome.PARTIAL
    assert read(400, {"errors": told[1:]}, request=request).effect is Effect.NONE


def test_words_of_a_part_that_was_done_leave_the_rest_in_doubt():
    told = read(422, {"message": "partial write: field type conflict, dropped=1"})

    assert (told.outcome, told.effect) == (Outcome.IN_DOUBT, Effect.UNKNOWN)


def test_a_limit_on_how_much_there_may_be_is_not_waited_for():
    assert read(403, {"message": "Quota exceeded for disks: already used 10 of 10"}).outcome is Outcome.REFUSED
    assert read(403, {"message": "Quota exceeded: 100 requests per minute"}).outcome is Outcome.RATE_LIMITED


def test_a_503_is_without_effect_only_where_its_header_says_when_to_come_back():
    page = b"<html><title>503 Service Temporarily Unavailable</title></html>"

    assert read(503, page).effect is Effect.UNKNOWN
    assert read(503, {"error": "busy", "retry_after": 20}).effect is Effect.UNKNOWN
    assert read(503, page, (b"Retry-After", b"20")).effect is Effect.NONE


def test_names_seen_before_in_other_answers_do_not_hide_a_failed_item():
    request = post(b'{"index": {"_id": "1"}}\n{"n": 1}\n{"index": {"_id": "2"}}\n{"n": "x"}\n', headers=())
    bulk = {
        "errors": True,
        "items": [{"index": {"_id": "1", "status": 201}}, {"index": {"_id": "2", "status": 400}}],
    }
    read(200, {"lines": [{"index": 1, "sku": "a"}], "total": 3, "page": 1, "size": 1, "more": None})

    assert read(200, bulk, request=request).outcome is Outcome.PARTIAL
