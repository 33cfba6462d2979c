"""Upstreams that finish later: the place to ask, and what its answers mean."""

from __future__ import annotations

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from policies.outcome import Outcome
from policies.polling import UNKNOWN_FOR, Ended, Lost, Running, handle_of, read_standing

BASE = "https://api.test/v2"
JSON = (b"content-type", b"application/json")
POST = Request("POST", b"/exports", (JSON, (b"authorization", b"Bearer t"), (b"prefer", b"respond-async")), b"{}")
ASK = Request("GET", b"/jobs/1", ())


def accepted(*headers: tuple[bytes, bytes], body: bytes = b"") -> Response:
    return Response(202, (JSON, *headers), body)


def standing(status: int = 200, body: bytes = b"", *headers: tuple[bytes, bytes], age: float = 60.0):
    return read_standing(ASK, Response(status, (JSON, *headers), body), age, BASE, 0.0)


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        (accepted((b"Location", b"/v2/jobs/1")), b"/jobs/1"),
        (accepted((b"Location", b"https://api.test/v2/jobs/1?x=y")), b"/jobs/1?x=y"),
        (accepted((b"location", b"/v2/x"), (b"Operation-Location", b"https://api.test/v2/ops/1")), b"/ops/1"),
        (accepted(body=b'{"id": 1, "status_url": "https://api.test/v2/jobs/1"}'), b"/jobs/1"),
        (accepted(body=b'{"_links": {"statusUrl": {"href": "/v2/jobs/1"}}}'), b"/jobs/1"),
    ],
)
def test_the_place_to_ask_is_found_under_the_base_url(answer: Response, target: bytes):
    question = handle_of(POST, answer, BASE)

    assert question is not None
    assert (question.method, question.target) == ("GET", target)
    assert question.headers == ((b"authorization", b"Bearer t"),)


@pytest.mark.parametrize(
    "answer",
    [
        accepted(),
        accepted(body=b'{"job_id": "17"}'),
        accepted((b"location", b"https://elsewhere.test/v2/jobs/1")),
        accepted((b"location", b"https://api.test/v1/jobs/1")),
        accepted((b"location", b"https://api.test.evil/v2/jobs/1")),
        accepted((b"location", b"/v2/jobs\r\nx")),
        Response(201, ((b"location", b"/v2/jobs/1"),)),
    ],
)
def test_an_answer_without_a_place_of_ours_is_the_end(answer: Response):
    assert handle_of(POST, answer, BASE) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, b""),
        (200, b'{"status": "In_Progress"}'),
        (200, b'{"properties": {"provisioningState": "Updating"}}'),
        (200, b'{"name": "operations/1", "done": false}'),
        (500, b""),
        (429, b""),
    ],
)
def test_what_runs_is_asked_again(status: int, body: bytes):
    assert isinstance(standing(status, body), Running)


def test_the_upstreams_pace_is_kept_and_otherwise_grows_with_age():
    stated = standing(202, b"", (b"retry-after", b"7"))
    young, old = standing(202, age=1.0), standing(202, age=1000.0)

    assert isinstance(stated, Running) and stated.wait == 7
    assert isinstance(young, Running) and young.wait == 1.0
    assert isinstance(old, Running) and old.wait == 30.0
    assert isinstance(read_standing(ASK, Fault(Phase.WAIT, "closed"), 8.0, BASE, 0.0), Running)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"status": "succeeded"}', Outcome.SUCCESS),
        (200, b'{"rows": 3}', Outcome.SUCCESS),
        (200, b'{"done": true, "response": {}}', Outcome.SUCCESS),
        (200, b'{"done": true, "error": {"code": 3}}', Outcome.REFUSED),
        (200, b'{"state": "FAILED"}', Outcome.REFUSED),
    ],
)
def test_an_end_is_recognised(status: int, body: bytes, outcome: Outcome):
    ended = standing(status, body)

    assert isinstance(ended, Ended)
    assert ended.outcome is outcome


def test_the_result_may_lie_elsewhere():
    see = standing(303, b"", (b"location", b"/v2/exports/9"))
    named = standing(200, b'{"status": "succeeded", "resourceLocation": "https://api.test/v2/exports/9"}')

    for ended in (see, named):
        assert isinstance(ended, Ended) and ended.result is not None
        assert ended.result.target == b"/exports/9"


def test_a_place_unknown_for_long_has_lost_the_job():
    assert isinstance(standing(404, age=UNKNOWN_FOR - 1), Running)
    assert isinstance(standing(404, age=UNKNOWN_FOR), Lost)
    assert isinstance(standing(403, age=0.0), Lost)
