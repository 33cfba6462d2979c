"""A batch that half succeeded: items are told apart, what remains is sent alone, one answer is delivered."""

import json
from dataclasses import replace

import pytest

from discovery.exchange import Request, Response
from policies.outcome import Effect, Outcome, classify
from policies.partial import merge, unfinished

NOW = 1_700_000_000.0
JSON = ((b"Content-Type", b"application/json"),)
XML = ((b"Content-Type", b"application/xml"),)


def post(body, headers=JSON):
    return Request("POST", b"/batch", headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def ok(body, headers=JSON, status=200):
    return Response(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def told(request, answer):
    reading = classify(request, answer, NOW)
    return reading, [(item.key, item.ok, item.retry) for item in reading.items]


def finish(request, answer, later):
    """Send what is unfinished, get `later` for it, and return (what was sent, the merged body, the items' ok)."""
    reading = classify(request, answer, NOW)
    sent = unfinished(request, reading)
    merged, items = merge(reading, answer, sent, later, classify(sent, later, NOW))
    return json.loads(sent.body), json.loads(merged.body), [item.ok for item in items]


# Telling items apart


def test_items_are_told_apart_by_the_id_the_client_gave_in_whatever_order_they_come():
    request = post({"requests": [{"id": "1", "url": "/a"}, {"id": "2", "url": "/b"}, {"id": "3", "url": "/c"}]})
    answer = ok(
        {
            "responses": [
                {"id": "3", "status": 201},
                {"id": "1", "status": 429, "headers": {"Retry-After": "7"}},
                {"id": "2", "status": 400, "body": {"error": {"message": "name is required"}}},
            ]
        }
    )

    reading, items = told(request, answer)

    assert (reading.outcome, reading.effect) == (Outcome.PARTIAL, Effect.SOME)
    assert items == [("1", False, True), ("2", False, False), ("3", True, False)]
    assert reading.wait == 7


def test_items_are_told_apart_by_position_where_the_lengths_agree():
    request = post({"Records": [{"Data": "a"}, {"Data": "b"}, {"Data": "c"}]})
    answer = ok({"FailedRecordCount": 1, "Records": [{"Seq": "1"}, {"ErrorCode": "Throttled"}, {"Seq": "2"}]})

    reading, items = told(request, answer)

    assert reading.outcome is Outcome.PARTIAL
    assert [(done, again) for _, done, again in items] == [(True, False), (False, True), (True, False)]


def test_a_batch_whose_lengths_differ_is_in_doubt_and_nothing_of_it_is_sent_again():
    request = post({"Records": [{"Data": "a"}, {"Data": "b"}, {"Data": "c"}]})
    answer = ok({"FailedRecordCount": 1, "Records": [{"Seq": "1"}, {"ErrorCode": "Throttled"}]})

    reading, items = told(request, answer)

    assert (reading.outcome, reading.effect) == (Outcome.IN_DOUBT, Effect.UNKNOWN)
    assert [done for _, done, _ in items] == [None, None, None]
    assert unfinished(request, reading) is None


def test_two_equal_items_are_not_told_apart_by_their_value():
    request = post({"ids": ["a", "a", "b"]})

    reading, _ = told(request, ok({"failed": ["a"]}))

    assert reading.outcome is Outcome.IN_DOUBT


def test_items_are_told_apart_by_their_natural_key():
    request = post({"ids": ["a", "b", "c"]})

    _, items = told(request, ok({"succeeded": ["c", "a"], "failed": ["b"]}))

    assert items == [("a", True, False), ("b", False, False), ("c", True, False)]


def test_what_no_list_of_failures_names_is_done():
    request = post(
        b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object><Quiet>true</Quiet></Delete>", XML
    )
    answer = ok(b"<DeleteResult><Error><Key>b</Key><Code>InternalError</Code></Error></DeleteResult>", XML)

    _, items = told(request, answer)

    assert items == [("a", True, False), ("b", False, True)]


def test_items_given_back_as_they_were_sent_are_unprocessed_and_the_rest_is_done():
    put = [{"Put": {"id": {"S": str(n)}}} for n in range(4)]
    request = post({"Tables": {"x": put[:2], "y": put[2:]}})

    reading, items = told(request, ok({"UnprocessedItems": {"y": [put[3]]}}))

    assert [(done, again) for _, done, again in items] == [(True, False)] * 3 + [(False, True)]
    assert json.loads(unfinished(request, reading).body) == {"Tables": {"y": [put[3]]}}


def test_failures_told_by_index_leave_the_others_done():
    request = post({"operations": [{"create": {"n": 1}}, {"create": {"n": 2}}]})
    error = {"message": "bad", "details": [{"errors": [{"location": [{"field": "operations", "index": 1}]}]}]}

    _, items = told(request, ok({"results": [{"name": "x/1"}, {}], "partialError": error}))

    assert [done for _, done, _ in items] == [True, False]


def test_an_item_that_failed_inside_the_server_is_in_doubt_and_is_not_sent_again():
    request = post({"requests": [{"id": "1"}, {"id": "2"}]})

    reading, items = told(request, ok({"responses": [{"id": "1", "status": 201}, {"id": "2", "status": 500}]}))

    assert items == [("1", True, False), ("2", None, False)]
    assert unfinished(request, reading) is None


def test_a_batch_in_which_every_item_failed_for_good_is_refused_not_partial():
    request = post({"requests": [{"id": "1"}, {"id": "2"}]})
    missing = {"body": {"error": "Not Found"}}

    reading, _ = told(
        request, ok({"responses": [{"id": "1", "status": 404} | missing, {"id": "2", "status": 404}]})
    )

    assert (reading.outcome, reading.effect) == (Outcome.REFUSED, Effect.NONE)


def test_a_batch_in_which_every_item_may_be_repeated_had_no_effect_and_may_be():
    request = post({"requests": [{"id": "1"}, {"id": "2"}]})

    reading, _ = told(request, ok({"responses": [{"id": "1", "status": 429}, {"id": "2", "status": 503}]}))

    assert reading.outcome in (Outcome.TRANSIENT, Outcome.RATE_LIMITED)
    assert reading.effect is Effect.NONE


def test_graphql_fields_are_items_named_by_the_answer():
    request = post({"query": "mutation { a { id } b { id } }"})

    reading, items = told(
        request, ok({"data": {"a": {"id": 1}, "b": None}, "errors": [{"message": "boom", "path": ["b"]}]})
    )

    assert reading.outcome is Outcome.PARTIAL
    assert items == [("a", True, False), ("b", False, False)]


@pytest.mark.parametrize(
    "body",
    [
        {"responses": [{"id": "1", "status": 201}, {"id": "2", "status": 200}]},
        {"errors": False, "items": [{"index": {"status": 201}}, {"index": {"status": 201}}]},
        {"UnprocessedItems": {}},
        {"Successful": [{"Id": "1"}, {"Id": "2"}], "Failed": []},
        [{"id": "x", "success": True, "errors": []}, {"id": "y", "success": True, "errors": []}],
    ],
)
def test_a_batch_without_failures_is_a_success(body):
    reading, items = told(post({"requests": [{"id": "1"}, {"id": "2"}]}), ok(body))

    assert (reading.outcome, items) == (Outcome.SUCCESS, [])


# Finishing


def test_a_positional_batch_is_finished_and_merged_in_the_order_of_the_request():
    request = post({"Stream": "s", "Records": [{"Data": "a"}, {"Data": "b"}, {"Data": "c"}]})
    answer = ok(
        {"FailedRecordCount": 2, "Records": [{"ErrorCode": "Throttled"}, {"Seq": "1"}, {"ErrorCode": "Busy"}]}
    )
    later = ok({"FailedRecordCount": 0, "Records": [{"Seq": "2"}, {"Seq": "3"}]})

    sent, merged, done = finish(request, answer, later)

    assert sent == {"Stream": "s", "Records": [{"Data": "a"}, {"Data": "c"}]}
    assert merged == {"FailedRecordCount": 0, "Records": [{"Seq": "2"}, {"Seq": "1"}, {"Seq": "3"}]}
    assert done == [True, True, True]


def test_a_batch_of_two_lists_is_merged_into_the_list_each_item_ended_in():
    request = post({"Entries": [{"Id": "a"}, {"Id": "b"}, {"Id": "c"}]})
    slow = {"SenderFault": False, "Code": "InternalError"}
    wrong = {"Id": "c", "SenderFault": True, "Code": "Invalid"}
    answer = ok({"Successful": [{"Id": "b", "MessageId": "m1"}], "Failed": [{"Id": "a"} | slow, wrong]})
    later = ok({"Successful": [{"Id": "a", "MessageId": "m2"}]})

    sent, merged, done = finish(request, answer, later)

    assert sent == {"Entries": [{"Id": "a"}]}
    assert merged == {
        "Successful": [{"Id": "a", "MessageId": "m2"}, {"Id": "b", "MessageId": "m1"}],
        "Failed": [wrong],
    }
    assert done == [True, True, False]


def test_a_later_answer_that_fails_in_part_leaves_only_that_part_unfinished():
    request = post({"requests": [{"id": "1"}, {"id": "2"}, {"id": "3"}]})
    answer = ok(
        {"responses": [{"id": "1", "status": 429}, {"id": "2", "status": 429}, {"id": "3", "status": 200}]}
    )
    later = ok({"responses": [{"id": "2", "status": 400}, {"id": "1", "status": 201}]})

    _, merged, done = finish(request, answer, later)

    assert [part["status"] for part in merged["responses"]] == [201, 400, 200]
    assert done == [True, False, True]


def test_unprocessed_items_are_sent_in_the_form_of_the_request_until_none_are_left():
    put = [{"Put": {"id": {"S": str(n)}}} for n in range(3)]
    request = post({"Tables": {"x": put}})

    sent, merged, done = finish(request, ok({"UnprocessedItems": {"x": put[1:]}}), ok({"UnprocessedItems": {}}))

    assert sent == {"Tables": {"x": put[1:]}}
    assert merged == {"UnprocessedItems": {}}
    assert done == [True, True, True]


def test_a_bulk_of_lines_keeps_each_action_with_its_document():
    lines = b'{"index":{"_id":"1"}}\n{"delete":1}\n{"delete":{"_id":"2"}}\n{"index":{"_id":"3"}}\n{"f":3}\n'
    request = post(lines, ((b"Content-Type", b"application/x-ndjson"),))
    full = {"status": 429, "error": {"type": "queue_full"}}
    answer = ok({"errors": True, "items": [{"index": full}, {"delete": {"status": 200}}, {"index": full}]})
    reading = classify(request, answer, NOW)

    sent = unfinished(request, reading)

    assert sent.body == b'{"index":{"_id":"1"}}\n{"delete":1}\n{"index":{"_id":"3"}}\n{"f":3}\n'
    later = ok({"errors": False, "items": [{"index": {"status": 201}}, {"index": {"status": 201}}]})
    merged, items = merge(reading, answer, sent, later, classify(sent, later, NOW))
    assert [next(iter(part.values()))["status"] for part in json.loads(merged.body)["items"]] == [201, 200, 201]
    assert json.loads(merged.body)["errors"] is False
    assert all(item.ok for item in items)


def test_xml_is_taken_apart_by_its_bytes():
    text = (
        b'<d:Delete xmlns:d="urn:x"><d:Object><d:Key>a</d:Key></d:Object>'
        b"<d:Object><d:Key>b</d:Key></d:Object><d:Object><d:Key>c</d:Key></d:Object></d:Delete>"
    )
    broken = b"<Error><Key>%s</Key><Code>InternalError</Code></Error>"
    request = post(text, XML)
    answer = ok(b"<R>" + broken % b"b" + broken % b"c" + b"</R>", XML)
    reading = classify(request, answer, NOW)

    sent = unfinished(request, reading)

    assert sent.body == text.replace(b"<d:Object><d:Key>a</d:Key></d:Object>", b"")
    later = ok(b"<R>" + broken % b"c" + b"</R>", XML)
    merged, items = merge(reading, answer, sent, later, classify(sent, later, NOW))
    assert merged.body == b"<R>" + broken % b"c" + b"</R>"
    assert [(item.key, item.ok) for item in items] == [("a", True), ("b", True), ("c", False)]


def test_an_outage_at_the_second_sending_leaves_the_first_answer_and_its_items():
    request = post({"Records": [{"Data": "a"}, {"Data": "b"}]})
    answer = ok({"Records": [{"Seq": "1"}, {"ErrorCode": "Throttled"}]})
    reading = classify(request, answer, NOW)
    sent = unfinished(request, reading)
    outage = Response(503, JSON, b"{}")

    merged, items = merge(reading, answer, sent, outage, classify(sent, outage, NOW))

    assert merged == answer
    assert items == reading.items


def test_a_smaller_batch_has_headers_of_its_own():
    request = post({"Records": [{"Data": "a"}, {"Data": "b"}]})
    request = replace(
        request,
        headers=(
            *JSON,
            (b"Content-Length", b"41"),
            (b"Idempotency-Key", b"k"),
            (b"Content-MD5", b"old"),
            (b"X-Tag", b"kept"),
        ),
    )

    sent = unfinished(request, classify(request, ok({"Records": [{"Seq": "1"}, {"ErrorCode": "Throttled"}]}), NOW))

    headers = {name.lower(): value for name, value in sent.headers}
    assert headers[b"content-length"] == str(len(sent.body)).encode()
    assert headers[b"content-md5"] != b"old"
    assert headers[b"x-tag"] == b"kept"
    assert b"idempotency-key" not in headers
