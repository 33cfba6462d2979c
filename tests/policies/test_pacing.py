"""What answers teach about pace, and when a breaker opens."""

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from policies.outcome import Effect, Outcome, Reading, classify
from policies.pacing import CLOSED, LONGEST, RUN, breaker_after, held_back

POST = Request("POST", b"/charges", (), b"{}")
DOWN = Fault(Phase.CONNECT, "refused")
FINE = Response(200, (), b"{}")
DATE = 1_800_000_000.0


def taught(answer, limits=1):
    return held_back(answer, classify(POST, answer, DATE), DATE, limits, chance=0.5)


def after(breaker, *answers, now=0.0):
    for answer in answers:
        breaker = breaker_after(breaker, answer, classify(POST, answer, DATE), now, 0.5)
    return breaker


# Limits


@pytest.mark.parametrize(
    "headers",
    [
        ((b"X-RateLimit-Remaining", b"0"), (b"X-RateLimit-Reset", b"7")),
        ((b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", str(int(DATE) + 7).encode())),
        ((b"RateLimit", b'"default";r=0;t=7'),),
    ],
)
def test_a_successful_answer_tells_that_it_was_the_last_for_now(headers):
    assert taught(Response(200, headers, b"{}")) == 7.0


def test_what_remains_and_what_was_accepted_for_later_hold_nobody_back():
    assert taught(Response(200, ((b"RateLimit", b'"default";r=3;t=7'),), b"{}")) == 0
    assert taught(Response(202, ((b"Retry-After", b"7"),), b"{}")) == 0


def test_a_limit_without_a_time_teaches_a_pause_that_grows():
    limited = Response(429, (), b"")

    pauses = [taught(limited, limits) for limits in (1, 2, 3, 30)]

    assert pauses == [0.75, 1.5, 3.0, 45.0]


def test_a_stated_wait_is_kept_but_not_for_years():
    assert taught(Response(429, ((b"Retry-After", b"7"),), b"")) == 7.0
    assert taught(Response(429, ((b"Retry-After", b"315360000"),), b"")) == LONGEST


# The breaker


def test_a_run_of_failures_opens_it_and_one_less_does_not():
    assert after(CLOSED, *[DOWN] * (RUN - 1)).closed
    opened = after(CLOSED, *[DOWN] * RUN, now=100.0)
    assert not opened.closed
    assert 100.5 < opened.until <= 101.0


@pytest.mark.parametrize("answer", [FINE, Response(404, (), b""), Response(429, (), b"")])
def test_any_answer_of_a_working_upstream_ends_the_run_and_closes_it(answer):
    assert after(CLOSED, *[DOWN] * (RUN - 1), answer) == CLOSED
    assert after(CLOSED, *[DOWN] * RUN, answer) == CLOSED


@pytest.mark.parametrize(
    "answer",
    [
        Response(429, (), b""),
        Response(403, ((b"X-RateLimit-Remaining", b"0"), (b"Retry-After", b"9")), b""),
        Response(503, ((b"Retry-After", b"9"),), b""),
        Response(503, (), b'{"code": "Throttling"}'),
        Fault(Phase.UNSENT, "the lease was over"),
        Fault(Phase.POOL, "no connection became free"),
    ],
)
def test_limits_and_our_own_failures_never_open_it(answer):
    assert after(CLOSED, *[answer] * RUN * 3).closed


def test_what_cannot_be_read_says_nothing():
    unread = Reading(Outcome.IN_DOUBT, Effect.UNKNOWN, "unreadable")
    counted = after(CLOSED, DOWN)

    assert breaker_after(counted, FINE, unread, 0.0, 0.5) == counted


def test_calls_under_way_when_it_opened_do_not_hold_it_open_for_longer():
    opened = after(CLOSED, *[DOWN] * RUN, now=100.0)

    assert after(opened, *[DOWN] * 50, now=100.2) == opened


def test_a_failed_probe_opens_it_for_longer_up_to_a_bound():
    breaker = after(CLOSED, *[DOWN] * RUN)
    rests = []
    for _ in range(8):
        now = breaker.until
        breaker = after(breaker.probe(now), DOWN, now=now)
        rests.append(breaker.until - now)

    assert rests == sorted(rests)
    assert rests[0] == pytest.approx(1.75)
    assert rests[-1] == pytest.approx(0.875 * 30.0)


def test_a_probe_nobody_hears_of_holds_the_others_for_one_rest():
    opened = after(CLOSED, *[DOWN] * RUN, now=100.0)

    assert opened.probe(101.0).until == 102.0
