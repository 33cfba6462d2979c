"""Upstreams that accept a request and finish it later: where they say how it stands, and when it has ended.

A 202 that names no such place is a plain success, as is one whose place lies outside the upstream's base URL:
the gateway goes nowhere a caller could not have sent it. What counts as a place: `Operation-Location`,
`Azure-AsyncOperation`, `Location`, or a link in the body under a name used for it. Asking there is safe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

from discovery.body import read_body
from discovery.exchange import SAFE_METHODS, Fault, Json, Request, Response
from policies.actions import Answered, Call, Commit, Held, Life, Look, Moment, Probe, Wait, do
from policies.adapting import delivered, in_shape, original_of
from policies.answers import deferred, doubtful
from policies.claims import ALWAYS, LEASE, Change, Outdated, State
from policies.credentials import goes_on, keeping
from policies.outcome import Effect, Outcome
from policies.reply import Reply
from policies.rules import Rules
from policies.waits import read_pace

HANDLES = (b"operation-location", b"azure-asyncoperation", b"location")

LINKS = ("statusurl", "statusuri", "pollurl", "pollingurl", "operationlocation", "statusquerygeturi")
"""Members of a body that name the place, less case and separators."""

RUNNING = re.compile(
    "running|pending|(?:en)?queued|inprogress|processing|notstarted|accepted|waiting|started|creating|updating"
    "|deleting|provisioning|new|submitted|scheduled|active|executing|working|incomplete"
)
FAILED = re.compile("failed|failure|error(?:ed)?|cancell?ed|aborted|rejected|expired|timedout")
"""An upstream's words for how a job stands, less case and separators; any other says that it has ended well."""

FIRST_POLL = 1.0
LONGEST_POLL = 30.0
"""Seconds between questions where the upstream does not say: a second, a quarter of the age, at most 30."""

UNKNOWN_FOR = 30.0
"""Seconds a place may be unknown (404) at first: it may not be there at once."""


@dataclass(frozen=True, slots=True)
class Running:
    """It has not ended; ask again in `wait` seconds."""

    wait: float
    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """It has ended: `answer` is the result, unless that lies elsewhere (`result`)."""

    outcome: Outcome
    answer: Response
    why: str
    result: Request | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody knows any more how it ended."""

    why: str


Standing: TypeAlias = Running | Ended | Lost


def handle_of(request: Request, answer: Response | Fault, base_url: str) -> Request | None:
    """Return the question that tells how an accepted request stands; None where the answer names no place."""
    if not isinstance(answer, Response) or answer.status != 202 or request.method in SAFE_METHODS:
        return None
    said = next((value for name in HANDLES if (value := answer.header(name))), None)
    place = said.decode("latin-1") if said else _link(answer)
    return _question(request, place, base_url) if place else None


def read_standing(question: Request, answer: Response | Fault, age: float, base_url: str, now: float) -> Standing:
    """Return how the job stands that `question` asked after, `age` seconds after it was accepted."""
    pause = min(LONGEST_POLL, max(FIRST_POLL, age / 4))
    match answer:
        case Fault():
            return Running(pause, f"not answered ({answer.detail})")
        case Response(status=status) if status in (408, 425, 429) or status >= 500:
            wait = read_pace(answer.headers, now).wait
            return Running(pause if wait is None else max(wait, FIRST_POLL), f"status {status}")
        case Response(status=404) if age < UNKNOWN_FOR:
            return Running(pause, "not known yet")
        case Response(status=status) if status >= 400:
            return Lost(f"asked how it stands, the upstream answers {status}")
        case Response(status=status) if 300 <= status < 400 and (place := answer.header(b"location")):
            result = _question(question, place.decode("latin-1"), base_url)
            return Ended(Outcome.SUCCESS, answer, f"status {status}: the result is elsewhere", result)
        case Response():
            return _told(question, answer, pause, base_url, now)


def _told(question: Request, answer: Response, pause: float, base_url: str, now: float) -> Standing:
    body = read_body(answer.headers, answer.body).value
    stands, word = _state(body)
    if stands == "running" or (answer.status == 202 and not stands):
        wait = read_pace(answer.headers, now).wait
        return Running(pause if wait is None else max(wait, FIRST_POLL), f"it is {word or 'still running'}")
    if stands == "failed":
        return Ended(Outcome.REFUSED, answer, f"it ended as {word}")
    place = body.get("resourceLocation") if isinstance(body, dict) else None
    result = _question(question, place, base_url) if isinstance(place, str) else None
    return Ended(Outcome.SUCCESS, answer, f"it ended as {word}" if word else f"status {answer.status}", result)


def _state(body: Json) -> tuple[str, str]:
    """Return `running`, `failed`, `ended` or nothing, and the upstream's word for it."""
    if not isinstance(body, dict):
        return "", ""
    done = body.get("done")
    if isinstance(done, bool):
        return ("running" if not done else "failed" if body.get("error") else "ended"), f"done: {done}".lower()
    properties = body.get("properties")
    for holder in (body, properties if isinstance(properties, dict) else {}):
        for name in ("status", "state", "provisioningState"):
            word = holder.get(name)
            if isinstance(word, str):
                plain = re.sub(r"[\W_]", "", word).lower()
                stands = (
                    "running" if RUNNING.fullmatch(plain) else "failed" if FAILED.fullmatch(plain) else "ended"
                )
                return stands, word[:40]
    return "", ""


def _link(answer: Response) -> str | None:
    body = read_body(answer.headers, answer.body).value
    for holder in (body, body.get("links"), body.get("_links")) if isinstance(body, dict) else ():
        for name, value in holder.items() if isinstance(holder, dict) else ():
            link = value.get("href") if isinstance(value, dict) else value
            if isinstance(link, str) and re.sub(r"[\W_]", "", name).lower() in LINKS:
                return link
    return None


def _question(request: Request, place: str, base_url: str) -> Request | None:
    """Return a GET of `place`, with who asks as in `request`, where it lies under `base_url`."""
    if not place.isascii() or re.search(r"[\x00-\x20\x7f]", place):
        return None
    base = base_url.rstrip("/")
    url = urljoin(base + request.path.decode("latin-1"), place)
    root, found = urlsplit(base), urlsplit(url)
    inside = found.path == root.path or found.path.startswith(root.path + "/") or not root.path
    if (found.scheme, found.netloc) != (root.scheme, root.netloc) or not inside:
        return None
    target = (found.path[len(root.path) :] or "/") + (f"?{found.query}" if found.query else "")
    gone = (b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"expect", b"prefer")
    headers = tuple(header for header in request.headers if header[0].lower() not in gone)
    return Request("GET", target.encode(), headers)


# The part of a life


def follow(call: Call, rules: Rules, held: Held, accepted: Response, patience_ends: float) -> Life[Reply | None]:
    """Ask how an accepted request stands until it has ended, or patience has. None: the record moved on."""
    base_url = rules.upstream.base_url
    question = handle_of(held.request, accepted, base_url)
    attempts = held.record.attempt
    if question is None:  # another version accepted it
        return (yield from _lost(call, rules, attempts, "the place to ask how it stands is not known"))
    began = yield from do(Look())
    since = held.record.first_sent - held.offset if held.record.first_sent else began.now
    wait = _first_wait(accepted, began) if held.record.state is State.SENDING else 0.0
    while True:
        moment = yield from do(Look())
        if wait and moment.now + wait > patience_ends:
            due = moment.now + held.offset + wait
            why = "the upstream accepted it and finishes later"
            kept, credentials = keeping(call)
            wish = Change(State.ACCEPTED, Outcome.SUCCESS, Effect.UNKNOWN, not_before=due, credentials=kept)
            done = yield from do(Commit(wish, why, reply=accepted, credentials=credentials))
            if isinstance(done, Outdated):
                return None
            return deferred(call, attempts, wait, why, Outcome.SUCCESS, alone=goes_on(done.record))
        if wait:
            wish = Change(State.ACCEPTED, Outcome.SUCCESS, Effect.UNKNOWN, keep=LEASE)
            if isinstance((yield from do(Commit(wish, "the upstream accepted it", reply=accepted))), Outdated):
                return None
            yield from do(Wait(wait, "the upstream accepted it and finishes later"))
        answer = yield from do(Probe(question))
        moment = yield from do(Look())
        standing = read_standing(question, answer, moment.now - since, base_url, moment.date)
        match standing:
            case Running(pause, why):
                wait = pause
                deadline = held.record.deadline - held.offset if held.record.deadline else ALWAYS
                if moment.now >= deadline:
                    return (yield from _lost(call, rules, attempts, f"not ended by its deadline: {why}"))
            case Lost(why):
                return (yield from _lost(call, rules, attempts, why))
            case Ended(outcome, answer, why, result):
                return (yield from _end(call, attempts, outcome, answer, why, result))


def _first_wait(accepted: Response, moment: Moment) -> float:
    said = read_pace(accepted.headers, moment.date).wait
    return FIRST_POLL if said is None else max(said, 0.1)


def _end(
    call: Call, attempts: int, outcome: Outcome, answer: Response, why: str, result: Request | None
) -> Life[Reply | None]:
    if result is not None:
        fetched = yield from do(Probe(result))
        if isinstance(fetched, Response) and fetched.status < 300:
            answer = fetched
    effect = Effect.ALL if outcome is Outcome.SUCCESS else Effect.NONE
    state = State.SUCCEEDED if outcome is Outcome.SUCCESS else State.FAILED
    answered = (yield from in_shape(call, answer)) if outcome is Outcome.SUCCESS else Answered(answer)
    original = original_of(answer, answered)
    end = Change(state, outcome, effect, settles=True)
    done = yield from do(Commit(end, why, reply=answered.response, original=original))
    return None if isinstance(done, Outdated) else delivered(answered, outcome, attempts)


def _lost(call: Call, rules: Rules, attempts: int, why: str) -> Life[Reply | None]:
    done = yield from do(Commit(Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN), why))
    return None if isinstance(done, Outdated) else doubtful(call, rules, attempts, why)
