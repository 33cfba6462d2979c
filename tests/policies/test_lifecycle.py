"""The life of a call, lived without network, store or clock."""

from dataclasses import replace

from discovery.exchange import Fault, Phase, Request, Response
from gateway.testing import live
from policies.actions import Call, Claim, Claimed, Commit, Join, Note, Send, Wait
from policies.claims import (
    Busy,
    Change,
    Doubtful,
    Granted,
    Kept,
    Later,
    Mismatch,
    Outdated,
    Record,
    Recorded,
    State,
    StepKey,
    upstream_key,
)
from policies.lifecycle import life_of
from policies.outcome import Effect, Outcome
from policies.reply import Problem
from policies.rules import Idempotency, UpstreamRules, rules_for

SHOP = UpstreamRules("shop", "https://shop.example")
KEYED = replace(SHOP, idempotency=Idempotency("header"))
REQUEST = Request("POST", b"/charges", ((b"authorization", b"Bearer secret"),), b'{"amount":1}')
FROZEN = replace(REQUEST, headers=())
CALL = Call(
    "call",
    "shop",
    REQUEST,
    FROZEN,
    "f",
    30.0,
    StepKey("order", "o-1", "charge"),
    identified=True,
    workflow=("order", "o-1"),
)
READ = replace(CALL, request=Request("GET", b"/charges"), step=None)
SENDING = Record(State.SENDING, "f", attempt=1, lease_until=105.0, first_sent=100.0, effect=Effect.UNKNOWN)
GRANTED = Claimed(Granted(SENDING, resumed=False))
CREATED = Response(201, (), b'{"id":1}')
LOST = Fault(Phase.WAIT, "reset by peer")
REFUSED = Fault(Phase.CONNECT, "connection refused")


def rules(upstream=SHOP, method="POST"):
    return rules_for(upstream, method, "/charges")


def kept(act):
    """The ledger that keeps every change."""
    return Kept(replace(SENDING, state=act.change.state, effect=act.change.effect, outcome=act.change.outcome))


def world(claim=None, send=None, commit=kept):
    return {Claim: claim, Send: send, Commit: commit}


def changes(asked):
    return [act.change.state for act in asked if isinstance(act, Commit)]


def test_a_step_is_claimed_sent_and_committed_with_its_answer():
    reply, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=CREATED))

    assert [type(act) for act in asked] == [Claim, Send, Commit]
    assert reply.answer is CREATED
    assert asked[-1].reply is CREATED
    assert asked[-1].change == Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL)


def test_a_repeated_step_is_told_the_recorded_reply_and_sends_nothing():
    record = replace(SENDING, state=State.SUCCEEDED, outcome=Outcome.SUCCESS, effect=Effect.ALL)

    reply, asked = live(life_of(CALL, rules()), world(claim=Claimed(Recorded(record), reply=CREATED)))

    assert reply.answer is CREATED
    assert reply.replayed
    assert [type(act) for act in asked] == [Claim]


def test_another_request_under_the_same_step_is_refused_and_told_what_differs():
    other = replace(FROZEN, body=b'{"amount":2}')

    reply, asked = live(life_of(CALL, rules()), world(claim=Claimed(Mismatch(SENDING), request=other)))

    assert isinstance(reply.answer, Problem)
    assert (reply.answer.slug, reply.answer.status) == ("key-reused", 422)
    assert reply.answer.members["differs"] == ["body/amount"]
    assert [type(act) for act in asked] == [Claim]


def test_a_lost_answer_of_an_unkeyed_post_is_in_doubt_and_not_sent_again():
    reply, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=[LOST]))

    assert reply.outcome is Outcome.IN_DOUBT
    assert isinstance(reply.answer, Problem)
    assert (reply.answer.slug, reply.answer.status) == ("in-doubt", 502)
    assert reply.answer.members["phase"] == "wait"
    assert changes(asked) == [State.IN_DOUBT]


def test_a_lost_answer_of_an_unkeyed_post_that_was_claimed_before_its_turn_came_is_in_doubt_too():
    """It was claimed with nothing sent, when any repeat was safe, and marked later: the mark ended that."""
    claimed = replace(SENDING, state=State.CLAIMED, attempt=0, first_sent=0.0, effect=Effect.NONE)
    lost = Fault(Phase.WAIT, "closed")

    _, asked = live(life_of(CALL, rules()), world(claim=Claimed(Granted(claimed, resumed=False)), send=[lost]))

    assert sum(isinstance(act, Send) for act in asked) == 1
    assert changes(asked) == [State.SENDING, State.IN_DOUBT]


def test_a_timed_out_answer_is_in_doubt_as_a_gateway_timeout():
    reply, _ = live(life_of(CALL, rules()), world(claim=GRANTED, send=[replace(LOST, timed_out=True)]))

    assert isinstance(reply.answer, Problem)
    assert reply.answer.status == 504


def test_a_lost_answer_of_a_keyed_post_is_asked_for_again_with_the_same_bytes_and_key():
    reply, asked = live(life_of(CALL, rules(KEYED)), world(claim=GRANTED_KEYED, send=[LOST, CREATED]))

    sent = [act.request for act in asked if isinstance(act, Send)]
    assert sent[0] == sent[1]
    assert sent[0].header(b"idempotency-key") == upstream_key("call", 1).encode()
    assert reply.answer is CREATED
    assert reply.attempts == 2


GRANTED_KEYED = Claimed(Granted(replace(SENDING, window=86400.0 - 60), resumed=False))


def test_what_was_never_sent_is_sent_again_whatever_the_method():
    reply, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=[REFUSED, CREATED]))

    assert reply.answer is CREATED
    assert changes(asked) == [State.CLAIMED, State.SENDING, State.SUCCEEDED]


def test_while_it_waits_the_record_says_that_nothing_is_under_way():
    busy = Response(503, ((b"retry-after", b"2"),))

    _, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=[busy, CREATED]))

    kinds = [type(act) for act in asked]
    waited = kinds.index(Wait)
    assert asked[waited - 1].change.state is State.CLAIMED
    assert asked[waited - 1].change.effect is Effect.NONE
    assert asked[waited + 1].change.state is State.SENDING


def test_a_wait_longer_than_the_callers_patience_lets_the_step_go_until_then():
    limited = Response(429, ((b"retry-after", b"3600"),))

    reply, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=[limited]))

    assert isinstance(reply.answer, Problem)
    assert (reply.answer.slug, reply.answer.status) == ("deferred", 503)
    assert reply.retry_after >= 3600
    assert changes(asked) == [State.WAITING]
    assert asked[-1].change.not_before >= 3600


def test_a_caller_that_asked_for_it_is_told_202():
    limited = Response(429, ((b"retry-after", b"3600"),))
    call = replace(CALL, respond_async=True)

    reply, _ = live(life_of(call, rules()), world(claim=GRANTED, send=[limited]))

    assert reply.answer.status == 202


def test_a_step_whose_time_has_not_come_is_waited_for_inside_the_patience():
    waiting = replace(SENDING, state=State.WAITING, not_before=5.0)

    reply, asked = live(life_of(CALL, rules()), world(claim=[Claimed(Later(waiting, 5.0)), GRANTED], send=CREATED))

    assert [type(act) for act in asked] == [Claim, Wait, Claim, Send, Commit]
    assert reply.answer is CREATED


def test_a_running_twin_is_joined():
    reply, asked = live(
        life_of(CALL, rules()),
        world(claim=[Claimed(Busy(SENDING, 105.0)), Claimed(Recorded(SENDING), reply=CREATED)]),
    )

    assert [type(act) for act in asked] == [Claim, Join, Claim]
    assert reply.answer is CREATED


def test_a_twin_that_outlasts_the_patience_is_a_conflict():
    reply, _ = live(life_of(replace(CALL, patience=0.0), rules()), world(claim=Claimed(Busy(SENDING, 105.0))))

    assert isinstance(reply.answer, Problem)
    assert (reply.answer.slug, reply.answer.status) == ("in-progress", 409)


def test_a_step_in_doubt_stays_in_doubt_for_a_repeat():
    record = replace(SENDING, state=State.IN_DOUBT)

    reply, asked = live(life_of(CALL, rules()), world(claim=Claimed(Doubtful(record))))

    assert reply.outcome is Outcome.IN_DOUBT
    assert not any(isinstance(act, Send) for act in asked)


def test_a_resumed_step_sends_the_stored_request_with_the_present_credentials():
    stored = Request("POST", b"/charges", ((b"x-kept", b"1"),), b'{"amount": 1}')
    resumed = Claimed(Granted(SENDING, resumed=True), request=stored)

    _, asked = live(life_of(CALL, rules()), world(claim=resumed, send=CREATED))

    sent = next(act.request for act in asked if isinstance(act, Send))
    assert sent.body == stored.body
    assert sent.headers == ((b"x-kept", b"1"), (b"authorization", b"Bearer secret"))


def test_a_refusal_is_delivered_verbatim_and_recorded_without_effect():
    refused = Response(402, (), b'{"error":"card declined"}')

    reply, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=refused))

    assert reply.answer is refused
    assert changes(asked) == [State.FAILED]
    assert asked[-1].change.effect is Effect.NONE


def test_who_lost_the_step_sends_nothing_more_and_asks_again_what_became_of_it():
    gone = Outdated(None)
    told = Claimed(Recorded(replace(SENDING, state=State.SUCCEEDED)), reply=CREATED)

    reply, asked = live(life_of(CALL, rules()), world(claim=[GRANTED, told], send=[REFUSED], commit=[gone]))

    assert [type(act) for act in asked] == [Claim, Send, Commit, Claim]
    assert reply.answer is CREATED


def test_retries_end_and_say_so():
    reply, asked = live(life_of(CALL, rules()), world(claim=GRANTED, send=[REFUSED] * 5))

    assert isinstance(reply.answer, Problem)
    assert reply.answer.slug == "upstream-unreachable"
    assert reply.attempts == 5
    assert changes(asked)[-1] is State.EXHAUSTED


def test_a_read_is_sent_each_time_and_noted_in_the_history():
    reply, asked = live(life_of(READ, rules(method="GET")), world(send=CREATED))

    assert [type(act) for act in asked] == [Send, Note]
    assert reply.answer is CREATED


def test_a_read_is_repeated_after_any_fault():
    reply, _ = live(life_of(READ, rules(method="GET")), world(send=[LOST, Response(502), CREATED]))

    assert reply.answer is CREATED
    assert reply.attempts == 3


def test_an_unidentified_caller_gets_the_upstreams_own_words():
    broken = Response(500, (), b"oops")
    call = replace(CALL, step=None, identified=False, workflow=None)

    reply, asked = live(life_of(call, rules()), world(send=broken))

    assert reply.answer is broken
    assert reply.outcome is Outcome.IN_DOUBT
    assert [type(act) for act in asked] == [Send]
