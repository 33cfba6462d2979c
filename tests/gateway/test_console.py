"""The inspection API and the console's pages, over a ledger in memory: no server, no store, no sleeping."""

import asyncio
import json
import re
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from discovery.exchange import Request, Response
from gateway.console import ConsoleRequest
from gateway.lookups import Accepted, LookupTold
from gateway.problem_types import PROBLEM_TYPES
from gateway.problems import LedgerUnavailable
from gateway.tokens import capability
from policies.claims import Change, State
from policies.outcome import Effect, Outcome
from policies.proposals import Form
from tests.gateway.console_world import ADMIN, BEARER, CREATED, HOST, SIGNING, UPSTREAMS, World, with_a_past

ROOT = Path(__file__).parents[2]
HTML = (b"accept", b"text/html,application/xhtml+xml")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def calls(world: World) -> dict[str, str]:
    return with_a_past(world)


def read(answer) -> dict:
    return json.loads(answer.body)


def header(answer, name: bytes) -> bytes | None:
    return dict(answer.headers).get(name)


# The facts as JSON


def test_the_address_without_its_last_slash_leads_to_the_one_with_it(world):
    assert header(world.ask("GET", "/-", b"", ()), b"location") == b"/-/"


def test_health_readiness_and_explanations_want_no_token(world):
    for path in ("/-/health", "/-/ready", "/-/problems", "/-/problems/in-doubt"):
        assert world.ask("GET", path, b"", ()).status == 200

    assert read(world.ask("GET", "/-/health", b"", ())) == {"status": "ok"}


def test_all_else_wants_the_admin_token(world, calls):
    paths = (
        "/-/",
        "/-/calls",
        "/-/calls.json",
        f"/-/calls/{calls['done']}.json",
        "/-/workflows.json",
        "/-/metrics",
    )
    for path in (*paths, "/-/upstreams.json", "/-/patterns", "/-/no-such-page"):
        refused = world.ask("GET", path, b"", (HOST,))
        wrong = world.ask("GET", path, b"", (HOST, (b"authorization", b"Bearer " + ADMIN[:-1].encode())))

        assert (refused.status, wrong.status) == (401, 401), path
        assert read(refused)["type"] == "/-/problems/unauthorized"
        assert "/data/admin-token" in read(refused)["detail"]
        assert header(refused, b"www-authenticate")


def test_calls_are_listed_newest_first_and_by_state(world, calls):
    every = read(world.get("/-/calls.json"))
    doubts = read(world.get("/-/calls.json?state=in-doubt"))

    assert {call["id"] for call in every["calls"]} == set(calls.values())
    assert every["calls"][0]["id"] == calls["failed"]
    assert [call["id"] for call in doubts["calls"]] == [calls["doubt"]]
    assert doubts["calls"][0]["workflow"] == {"type": "sync-order", "id": "order-1138", "step": "notify customer"}


def test_a_list_goes_on_where_it_ended(world, calls):
    first = read(world.get("/-/calls.json?limit=4"))
    rest = read(world.get("/-/calls.json" + first["next"]))
    whole = read(world.get("/-/calls.json"))

    assert (len(first["calls"]), len(rest["calls"]), rest["next"]) == (4, 2, None)
    assert first["calls"] + rest["calls"] == whole["calls"]


@pytest.mark.parametrize(
    "query",
    ["state=lost", "limit=many", "limit=-1", "before=x", "before=1.0-zz", "state=" + "x" * 5000, "a&" * 500],
)
def test_a_query_that_cannot_be_read_is_answered_with_what_it_should_be(world, query):
    refused = world.get(f"/-/calls.json?{query}")

    assert (refused.status, read(refused)["type"]) == (400, "/-/problems/bad-request")


def test_a_call_has_the_members_the_interface_names(world, calls):
    call = read(world.get(f"/-/calls/{calls['done']}.json"))

    assert (call["state"], call["outcome"], call["effect"]) == ("succeeded", "success", "all")
    assert [attempt.get("status", attempt.get("fault")) for attempt in call["attempts"]] == ["connect", 429, 201]
    assert call["response"]["body"]["id"] == "ch_1138"


def test_json_is_told_by_the_suffix_or_by_accept(world, calls):
    by_suffix = world.get(f"/-/calls/{calls['done']}.json", HTML)
    by_accept = world.get(f"/-/calls/{calls['done']}", (b"accept", b"application/json"))

    assert header(by_suffix, b"content-type") == b"application/json"
    assert by_suffix.body == by_accept.body


def test_a_workflows_id_may_hold_anything_percent_encoded(world, calls):
    found = read(world.get("/-/workflows/reconcile/nightly%2F2026-11-22.json"))

    assert found["id"] == "nightly/2026-11-22"
    assert [call["workflow"]["step"] for call in found["calls"]] == ["refund", "close month"]


def test_a_workflows_page_is_found_where_its_id_ends_in_json(world):
    asyncio.run(world.call("report.json", "send", State.SUCCEEDED))

    page = world.get("/-/workflows", HTML).body.decode()

    assert "/-/workflows/sync-order/report%2Ejson" in page
    shown = world.get("/-/workflows/sync-order/report%2Ejson", HTML)
    assert (shown.status, header(shown, b"content-type")) == (200, b"text/html; charset=utf-8")
    assert read(world.get("/-/workflows/sync-order/report.json.json"))["id"] == "report.json"


def test_a_long_workflow_is_told_in_parts(world):
    async def live():
        for number in range(7):
            await world.call("long", f"step {number}", State.SUCCEEDED)

    asyncio.run(live())
    first = read(world.get("/-/workflows/sync-order/long.json?limit=4"))
    rest = read(world.get("/-/workflows/sync-order/long.json" + first["next"]))

    steps = [call["workflow"]["step"] for call in first["calls"] + rest["calls"]]
    assert steps == [f"step {number}" for number in range(7)]
    assert (first["total"], rest["next"]) == (7, None)


def test_an_upstream_tells_what_is_configured_and_no_secret(world):
    told = world.get("/-/upstreams/billing.json")

    assert b"s3cr3t" not in told.body
    facts = read(told)
    assert facts["injects"] == ["Authorization"]
    assert facts["rate"] == {"limit": 100, "per": 60, "burst": 20}
    assert facts["operations"][0]["lookup"] == {
        "get": "/charges?ref={body.ref}",
        "found": "/data/0",
        "absent_after": 60.0,
    }
    assert [upstream["name"] for upstream in read(world.get("/-/upstreams.json"))["upstreams"]] == [*UPSTREAMS]


def test_what_does_not_exist_is_a_problem_that_says_so(world):
    paths = ("calls/zz", "calls/" + "0" * 26, "calls/" + "0" * 26 + "/response", "workflows/a/b", "upstreams/none")
    for path in (
        *paths,
        "upstreams/billing/openapi",
        "upstreams/billing/drift",
        "problems/none",
        "static/x",
        "a/b/c",
    ):
        missing = world.get(f"/-/{path}.json")

        assert (missing.status, read(missing)["type"]) == (404, "/-/problems/not-found"), path


PLACE = {"pointer": "/id", "type": "string", "seen": 9, "of": 9, "between": (0.7, 1.0)}
GLANCE = {"method": "GET", "path": "/messages/{id}", "seen": 12, "accepted": 9, "statuses": {"200": 9, "404": 3}}
GLANCE |= {"fields": 4, "of_items": False, "undecided": ()}
DRIFT = {"kind": "field-added", "severity": "info", "operation": "GET /messages/{id}", "message": "it is <new>"}
DRIFT["over"] = None


class Known:
    async def openapi(self, upstream, revision):
        return {"openapi": "3.1.0", "x-revision": revision}

    async def operations(self, upstream):
        return [GLANCE]

    async def operation(self, upstream, method, path):
        if (method, path) != ("GET", "/messages/{id}"):
            return None
        parameter = {"name": "id", "kinds": ("int",), "certain": True, "why": "has digits"}
        parts = [{"title": "answer 200 json", "places": [PLACE]}]
        return {"operation": GLANCE, "parameters": [parameter], "parts": parts}

    async def drift(self, upstream):
        return {"drift": [DRIFT], "announced": [{"operation": "GET /messages/{id}", "message": "ends <soon>"}]}


def test_contracts_are_told_where_there_are_some():
    world = World(contracts=Known())

    assert read(world.get("/-/upstreams/mail/openapi.json?revision=3"))["x-revision"] == 3
    assert read(world.get("/-/upstreams/mail/drift.json"))["drift"] == [DRIFT]


def test_a_doubt_and_its_upstream_tell_of_the_look_up_traffic_proposes_until_it_is_accepted():
    form = Form("POST /charges", "/charges?ref={body.ref}", "/data/0")
    known = [LookupTold("billing", form, 3, 0, None)]

    async def lookups(upstream):
        return known if upstream == "billing" else []

    world = World(lookups=lookups)
    call = asyncio.run(world.call("order-7", "send", State.IN_DOUBT))

    page, facts = (world.get(f"/-/calls/{call}", HTML).body.decode(), read(world.get(f"/-/calls/{call}.json")))
    upstream = world.get("/-/upstreams/billing", HTML).body.decode()

    assert facts["lookup"]["accept"] == "gimbal lookups billing --accept 'POST /charges'"
    for shown in (page, upstream):
        assert "gimbal lookups billing --accept &#39;POST /charges&#39;" in shown
    known[0] = LookupTold("billing", form, 3, 0, Accepted(form))
    assert read(world.get(f"/-/calls/{call}.json"))["lookup"] is None
    assert "--accept" not in world.get("/-/upstreams/billing", HTML).body.decode()


def test_an_upstreams_page_tells_what_it_was_seen_to_do_and_what_changed():
    world = World(contracts=Known())

    page, facts = world.get("/-/upstreams/mail", HTML).body.decode(), read(world.get("/-/upstreams/mail.json"))

    assert "it is &lt;new&gt;" in page and "ends &lt;soon&gt;" in page
    assert "/-/upstreams/mail/operation?of=GET%20%2Fmessages%2F%7Bid%7D" in page
    assert facts["known"][0]["path"] == "/messages/{id}"
    assert facts["drift"][0]["kind"] == "field-added"


def test_an_operation_is_told_in_depth_with_the_reason_for_each_parameter():
    world = World(contracts=Known())
    address = "/-/upstreams/mail/operation{}?of=GET%20/messages/%7Bid%7D"

    page, facts = world.get(address.format(""), HTML).body.decode(), read(world.get(address.format(".json")))

    assert "has digits" in page
    assert "70 to 100 percent" in page
    assert facts["parts"][0]["places"][0]["pointer"] == "/id"
    assert world.get("/-/upstreams/mail/operation.json?of=GET%20/other").status == 404


def test_metrics_are_what_the_journal_counts():
    told = World(metrics=lambda: "gimbal_calls_total 7\n").get("/-/metrics")

    assert told.body == b"gimbal_calls_total 7\n"
    assert header(told, b"content-type").startswith(b"text/plain; version=0.0.4")


def test_a_store_that_is_away_is_said_and_health_is_not_touched(world, monkeypatch):
    async def away(*_):
        raise LedgerUnavailable("the store does not answer")

    for name in ("entry", "calls", "workflows", "workflow"):
        monkeypatch.setattr(world.ledger, name, away)

    for path in ("/-/ready", "/-/calls.json", "/-/", "/-/workflows/a/b.json", "/-/calls/" + "0" * 26):
        answer = world.get(path)
        assert (answer.status, read(answer)["type"]) == (503, "/-/problems/ledger-unavailable"), path
        assert "does not answer" in read(answer)["detail"]
        assert header(answer, b"retry-after") == b"1"
    assert world.get("/-/health").status == 200


def test_trouble_the_ledger_does_not_tell_keeps_it_from_being_ready():
    answer = World(trouble=lambda: "the disk is full").get("/-/ready")

    assert answer.status == 503
    assert "the disk is full" in read(answer)["detail"]


def test_a_dead_holders_call_is_shown_as_what_time_made_of_it(world):
    call = asyncio.run(world.call("order-7", "charge", State.SENDING, took=60.0))

    told = read(world.get(f"/-/calls/{call}.json"))

    assert (told["state"], told["can"]) == ("in-doubt", ["resolve", "retry"])


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused_with_the_ones_that_mean_something(world, method):
    refused = world.get("/-/calls.json", method=method)

    assert (refused.status, header(refused, b"allow")) == (405, b"GET, HEAD, POST")


def test_a_get_changes_nothing(world, calls):
    refused = world.get(f"/-/calls/{calls['doubt']}/resolve")

    assert (refused.status, header(refused, b"allow")) == (405, b"POST")


# A person's word


def test_a_doubt_is_settled_with_the_answer_the_upstream_gave(world, calls):
    response = {"status": 202, "headers": [["X-Id", "7"], ["Connection", "close"]], "body": {"id": "msg_7"}}
    body = {"applied": True, "response": response, "because": "seen in its outbox"}

    settled = read(world.post(f"/-/calls/{calls['doubt']}/resolve", body))

    assert (settled["state"], settled["effect"]) == ("succeeded", "all")
    assert settled["response"] == {
        "status": 202,
        "headers": {"X-Id": "7", "content-type": "application/json"},
        "body": {"id": "msg_7"},
    }
    assert settled["transcript"][-1]["evidence"] == "seen in its outbox"
    assert settled["transcript"][-1]["by"] == "the admin token"


def test_a_doubt_that_had_no_effect_is_free_to_be_sent(world, calls):
    assert read(world.post(f"/-/calls/{calls['doubt']}/resolve", {"applied": False}))["state"] == "new"


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"applied": "yes"},
        {"applied": 1},
        {"applied": True, "because": 7},
        {"applied": False, "response": {"status": 200}},
        {"applied": True, "response": "ok"},
        {"applied": True, "response": {"status": 99}},
        {"applied": True, "response": {"status": True}},
        {"applied": True, "response": {"statusCode": 200}},
        {"applied": True, "response": {"headers": {"X": "a\r\nSet-Cookie: b"}}},
        {"applied": True, "response": {"headers": {"X Y": "a"}}},
        {"applied": True, "response": {"headers": {"X": "☃"}}},
        {"applied": True, "response": {"headers": [["X"]]}},
        {"applied": True, "response": {"headers": "X: y"}},
        {"applied": True, "response": {"body": "\ud800"}},
    ],
)
def test_a_verdict_that_cannot_be_read_changes_nothing(world, calls, body):
    refused = world.post(f"/-/calls/{calls['doubt']}/resolve", body)

    assert (refused.status, read(refused)["type"]) == (400, "/-/problems/bad-request")
    assert read(world.get(f"/-/calls/{calls['doubt']}.json"))["state"] == "in-doubt"


def test_what_a_state_does_not_allow_is_a_conflict_that_names_the_state(world, calls):
    for deed, call in (("resolve", "done"), ("retry", "done"), ("cancel", "doubt")):
        refused = world.post(f"/-/calls/{calls[call]}/{deed}", {"applied": True})

        assert (refused.status, read(refused)["type"]) == (409, "/-/problems/wrong-state")
        assert read(refused)["state"] in ("succeeded", "in-doubt")
    assert world.post(f"/-/calls/{'0' * 26}/cancel").status == 404


def test_a_waiting_call_is_hurried_or_given_up(world, calls):
    hurried = read(world.post(f"/-/calls/{calls['waiting']}/retry"))
    cancelled = read(world.post(f"/-/calls/{calls['waiting']}/cancel"))

    assert (hurried["state"], hurried["not_before"]) == ("waiting", world.clock.now())
    assert cancelled["state"] == "cancelled"


def test_a_workflow_ends_once_nothing_in_it_is_open(world, calls):
    path = "/-/workflows/sync-order/order-1138"
    refused = world.post(f"{path}/end")
    world.post(f"/-/calls/{calls['doubt']}/resolve", {"applied": True})
    ended = world.post(f"{path}/end")

    assert (refused.status, read(refused)["type"]) == (409, "/-/problems/wrong-state")
    assert (ended.status, read(ended)["state"]) == (200, "ended")
    assert world.post("/-/workflows/sync-order/none/end").status == 404


# The capability of one call


def watching(call: str) -> str:
    return f"/-/calls/{call}?token={capability(SIGNING, call)}"


def test_a_capability_tells_202_while_the_call_waits(world, calls):
    told = world.ask("GET", watching(calls["waiting"]), b"", ())

    assert told.status == 202
    assert int(header(told, b"retry-after")) == 297
    assert read(told)["state"] == "waiting"


def test_a_capability_tells_the_reply_byte_for_byte(world, calls):
    told = world.ask("GET", watching(calls["done"]), b"", ())

    assert (told.status, told.body) == (CREATED.status, CREATED.body)
    assert told.headers[:3] == CREATED.headers
    assert header(told, b"idempotent-replayed") == b"true"
    assert header(told, b"gimbal-call") == calls["done"].encode()
    assert header(told, b"content-security-policy") == b"sandbox"
    assert header(told, b"cache-control") == b"no-store"


def test_a_capability_opens_no_other_call_and_no_other_address(world, calls):
    token = capability(SIGNING, calls["done"])

    for path in (
        f"calls/{calls['doubt']}",
        f"calls/{calls['done']}/response",
        "calls",
        f"calls/{calls['done']}/cancel",
    ):
        assert world.ask("GET", f"/-/{path}?token={token}", b"", (HOST,)).status == 401


def test_a_watcher_is_held_as_long_as_it_prefers(world, calls):
    held = world.ask("GET", watching(calls["waiting"]), b"", ((b"prefer", b"wait=5"),))

    assert held.status == 202
    assert sum(world.clock.slept) == pytest.approx(5.0)
    assert len(world.clock.slept) < 40


def test_a_watcher_is_told_the_reply_as_soon_as_there_is_one(world):
    call = asyncio.run(world.call("order-8", "charge", State.SENDING, took=0.0))

    def answer_at_the_third_look():
        if len(world.clock.slept) != 3:
            return None
        change = Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL)
        return world.ledger.change(call, 1, change, reply=Response(200, (), b"at last"))

    world.clock.when_slept = answer_at_the_third_look
    told = world.ask("GET", watching(call), b"", ((b"prefer", b"wait=5"),))

    assert (told.status, told.body) == (200, b"at last")
    assert len(world.clock.slept) <= 4


def test_a_watcher_is_never_held_beyond_a_minute(world, calls):
    held = world.ask("GET", watching(calls["waiting"]), b"", ((b"prefer", b"respond-async, wait=100000"),))

    assert held.status == 202
    assert sum(world.clock.slept) == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("name", "status", "slug"),
    [("doubt", 502, "in-doubt"), ("exhausted", 502, "exhausted"), ("given-up", 410, "cancelled")],
)
def test_a_watcher_is_told_the_problem_where_there_is_no_reply(world, calls, name, status, slug):
    if name == "given-up":
        world.post(f"/-/calls/{calls['waiting']}/cancel")
        calls[name] = calls["waiting"]

    told = world.ask("GET", watching(calls[name]), b"", ())

    assert (told.status, read(told)["type"]) == (status, f"/-/problems/{slug}")
    assert read(told)["call"] == calls[name]


def test_a_watcher_is_told_that_the_reply_is_missing_where_nobody_gave_it(world, calls):
    world.post(f"/-/calls/{calls['doubt']}/resolve", {"applied": True})

    told = world.ask("GET", watching(calls["doubt"]), b"", ())

    assert (told.status, read(told)["type"]) == (502, "/-/problems/reply-missing")


# Who may look


def sign_in(world: World) -> tuple[bytes, bytes]:
    """Sign in as a browser does; return the Cookie header."""
    entered = world.ask("GET", f"/-/login?token={ADMIN}", b"", (HOST, HTML))
    assert (entered.status, header(entered, b"location")) == (303, b"/-/")
    return b"cookie", header(entered, b"set-cookie").partition(b";")[0]


def form_token(world: World, cookie: tuple[bytes, bytes]) -> str:
    page = world.ask("GET", "/-/calls", b"", (HOST, HTML, cookie)).body.decode()
    return re.search(r'name="form" value="([^"]+)"', page)[1]


def test_the_printed_link_signs_a_browser_in_with_a_cookie_that_is_not_the_token(world):
    entered = world.ask("GET", f"/-/login?token={ADMIN}", b"", (HOST, HTML))
    cookie = header(entered, b"set-cookie")

    assert b"HttpOnly" in cookie and b"SameSite=Strict" in cookie and b"Path=/-/" in cookie
    assert ADMIN.encode() not in cookie
    assert world.ask("GET", "/-/", b"", (HOST, HTML, sign_in(world))).status == 200


def test_a_session_ends_and_a_forged_one_never_began(world):
    name, value = sign_in(world)
    world.clock.time += 7 * 86400 - 1
    assert world.ask("GET", "/-/calls", b"", (HOST, (name, value))).status == 200

    world.clock.time += 2
    assert world.ask("GET", "/-/calls", b"", (HOST, (name, value))).status == 401
    key, _, session = value.partition(b"=")
    later = b"99" + session
    for forged in (
        later,
        session[:-1] + b"x",
        b"",
        b".",
        b"9" * 12 + b"." + b"0" * 40,
        "²".encode("latin-1") + session,
    ):
        assert world.ask("GET", "/-/calls", b"", (HOST, (name, key + b"=" + forged))).status == 401


def test_a_wrong_token_signs_nobody_in_and_the_page_says_where_the_token_is(world):
    for token in ("wrong", "", ADMIN + "x"):
        refused = world.ask("GET", f"/-/login?token={token}", b"", (HOST, HTML))

        assert (refused.status, header(refused, b"set-cookie")) == (401, None)
        assert b"/data/admin-token" in refused.body
        assert b'type="password"' in refused.body


def test_a_person_may_type_the_token_and_sign_out_again(world):
    entered = world.ask("POST", "/-/login", f"token={ADMIN}".encode(), (HOST, HTML, FORM))
    assert entered.status == 303

    cookie = sign_in(world)
    left = world.ask("POST", "/-/logout", f"form={form_token(world, cookie)}".encode(), (HOST, HTML, FORM, cookie))

    assert b"Max-Age=0" in header(left, b"set-cookie")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1:8470", 200),
        (b"127.1.2.3", 200),
        (b"[::1]:8470", 200),
        (b"10.0.0.7:8470", 200),
        (b"localhost:1", 200),
        (b"gimbal.localhost", 200),
        (b"LOCALHOST.", 200),
        (b"Gateway.Internal:8470", 200),
        (b"evil.example", 403),
        (b"evil.example:8470", 403),
        (b"127.0.0.1.evil.example", 403),
        (b"localhost.evil.example", 403),
        (b"notlocalhost", 403),
        (b"", 403),
    ],
)
def test_the_console_answers_to_names_that_cannot_be_rebound(host, status):
    world = World(hosts=["gateway.internal"])

    assert world.ask("GET", "/-/calls.json", b"", ((b"host", host), BEARER)).status == status
    assert world.ask("GET", f"/-/login?token={ADMIN}", b"", ((b"host", host),)).status == (
        303 if status == 200 else 403
    )
    assert world.ask("GET", "/-/health", b"", ((b"host", host),)).status == 200


def test_a_browsers_session_changes_nothing_without_the_forms_token(world, calls):
    cookie = sign_in(world)
    path = f"/-/calls/{calls['waiting']}/cancel"
    token = form_token(world, cookie)

    for body, *more in (
        (b"",),
        (b"form=wrong",),
        (f"form={token}".encode(), (b"origin", b"http://evil.example")),
        (f"form={token}".encode(), (b"origin", b"http://127.0.0.1:9999")),
    ):
        assert world.ask("POST", path, body, (HOST, FORM, cookie, *more)).status == 403
    assert (
        world.ask("POST", path, b'{"form": "x"}', (HOST, cookie, (b"content-type", b"application/json"))).status
        == 403
    )
    assert read(world.get(f"/-/calls/{calls['waiting']}.json"))["state"] == "waiting"

    done = world.ask(
        "POST", path, f"form={token}".encode(), (HOST, HTML, FORM, cookie, (b"origin", b"http://127.0.0.1:8470"))
    )
    assert (done.status, header(done, b"location").decode()) == (303, f"/-/calls/{calls['waiting']}")
    assert read(world.get(f"/-/calls/{calls['waiting']}.json"))["state"] == "cancelled"


def test_a_script_or_frame_cannot_use_a_browsers_session(world):
    cookie = sign_in(world)

    for dest in (b"empty", b"iframe", b"image", b"script"):
        assert world.ask("GET", "/-/calls.json", b"", (HOST, cookie, (b"sec-fetch-dest", dest))).status == 401
    assert world.ask("GET", "/-/calls.json", b"", (HOST, cookie, (b"sec-fetch-dest", b"document"))).status == 200


# The pages


PAGES = ("/-/", "/-/calls", "/-/calls?state=in-doubt", "/-/workflows", "/-/upstreams", "/-/upstreams/billing")
MORE_PAGES = ("/-/upstreams/mail", "/-/patterns", "/-/problems", "/-/problems/deferred", "/-/?live=1")


def every_page(world: World, calls: dict[str, str]) -> dict[str, bytes]:
    paths = [*PAGES, *MORE_PAGES, *(f"/-/calls/{call}" for call in calls.values())]
    paths += ["/-/workflows/sync-order/order-1138", "/-/workflows/reconcile/nightly%2F2026-11-22"]
    found = {path: world.get(path, HTML) for path in paths}
    assert {answer.status for answer in found.values()} == {200}
    return {path: answer.body for path, answer in found.items()}


def test_no_page_and_no_json_holds_a_secret(world, calls):
    for path, body in every_page(world, calls).items():
        assert b"s3cr3t" not in body, path
        as_json = "/-/index.json" if path.startswith("/-/?") or path == "/-/" else path.replace("?", ".json?")
        told = world.get(as_json if ".json" in as_json else f"{as_json}.json")
        assert told.status == 200
        assert b"s3cr3t" not in told.body, path


def test_every_page_names_its_json_and_links_lead_somewhere(world, calls):
    seen = set()
    pages = every_page(world, calls)
    del pages["/-/patterns"]  # it shows samples, which lead nowhere
    for path, body in pages.items():
        links = {link.replace("&amp;", "&") for link in re.findall(r'(?:href|action)="([^"#]+)', body.decode())}
        for link in links:
            target = path.partition("?")[0] + link if link.startswith("?") else link
            if target.startswith("/") and target not in seen:
                seen.add(target)
                assert world.get(target, HTML).status in (200, 405, 401 if "log" in target else 200), (path, link)
    assert len(seen) > 40


def test_every_answer_is_guarded(world, calls):
    paths = (*PAGES, "/-/calls.json", "/-/health", "/-/metrics", "/-/no-such-page", "/-/calls/zz")
    answers = [world.get(path, HTML) for path in paths] + [world.ask("GET", "/-/", b"", (HOST, HTML))]
    answers += [
        world.post(f"/-/calls/{calls['waiting']}/retry"),
        world.ask("GET", "/-/", b"", ((b"host", b"evil"),)),
    ]
    for answer in answers:
        policy = header(answer, b"content-security-policy").decode()
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert header(answer, b"x-content-type-options") == b"nosniff"
        assert header(answer, b"cache-control") == b"no-store"
        assert header(answer, b"referrer-policy") and header(answer, b"cross-origin-opener-policy")
        assert len(answer.body) == int(header(answer, b"content-length"))


def test_what_others_wrote_is_shown_and_never_acts(world):
    nasty = '"><script>alert(1)</script>\u202e'
    body = Response(200, ((b"content-type", b"text/html"),), nasty.encode())
    told = ({"at": 0.0, "did": "send", "status": 200, "outcome": nasty, "why": nasty, "detail": nasty},)
    asked = Request("POST", b"/%3Cb%3E<script>", ((b"X-Note", nasty.encode()),), nasty.encode())
    call = asyncio.run(
        world.call(nasty, nasty, State.SUCCEEDED, type="<i>", request=asked, reply=body, told=told, upstream="<u>")
    )

    workflow = f"/-/workflows/{quote('<i>', safe='')}/{quote(nasty, safe='')}"
    for path in ("/-/", "/-/calls", f"/-/calls/{call}", "/-/workflows", workflow):
        page = world.get(path, HTML)
        assert page.status == 200, path
        assert b"<script" not in page.body and b"<i>" not in page.body and b"<u>" not in page.body, path
        assert "\u202e" not in page.body.decode(), path


def test_a_long_body_is_cut_and_the_rest_is_a_link_away(world):
    rows = [{"id": number, "password": "s3cr3t"} for number in range(20_000)]
    reply = Response(200, ((b"content-type", b"application/json"),), json.dumps(rows).encode())
    call = asyncio.run(world.call("long", "export", State.SUCCEEDED, reply=reply))

    page = world.get(f"/-/calls/{call}", HTML).body.decode()
    rest = world.get(f"/-/calls/{call}/response")

    assert f'href="/-/calls/{call}/response"' in page
    assert len(page) < 1_000_000
    assert rest.body.count(b'"id"') == 20_000 and b"s3cr3t" not in rest.body
    assert header(rest, b"content-type").startswith(b"text/plain")


@pytest.mark.parametrize(
    "body", [b'{"a": NaN}', b'{"a": 1e999}', b'"\\ud800"', b"[" * 5000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_hardly_json_is_shown_all_the_same(world, body):
    reply = Response(200, ((b"content-type", b"application/json"),), body)
    told = ({"at": 0.0, "did": "send", "status": [], "took": "long", "outcome": {"x": 1}}, {"did": None})
    call = asyncio.run(world.call("odd", "odd", State.SUCCEEDED, reply=reply, told=told))

    assert world.get(f"/-/calls/{call}", HTML).status == 200
    assert world.get(f"/-/calls/{call}.json").status == 200
    assert world.get(f"/-/calls/{call}/response").status == 200


def test_a_calls_page_offers_what_its_state_allows(world, calls):
    def page(name):
        return world.get(f"/-/calls/{calls[name]}", HTML).body.decode()

    assert "It took effect</button>" in page("doubt") and "/resolve" in page("doubt")
    assert "Run now</button>" in page("waiting") and "Give up</button>" in page("waiting")
    assert "Make it due</button>" in page("exhausted")
    assert "<button" not in page("done").partition("<main")[2]


def test_a_doubt_is_settled_from_its_page(world, calls):
    cookie = sign_in(world)
    said = {
        "form": form_token(world, cookie),
        "applied": "yes",
        "because": "seen",
        "status": "202",
        "body": '{"a":1}',
    }

    done = world.ask(
        "POST", f"/-/calls/{calls['doubt']}/resolve", urlencode(said).encode(), (HOST, HTML, FORM, cookie)
    )
    told = read(world.get(f"/-/calls/{calls['doubt']}.json"))

    assert done.status == 303
    assert (told["state"], told["response"]["status"], told["response"]["body"]) == ("succeeded", 202, {"a": 1})
    assert told["transcript"][-1]["by"] == "a person at the console"


def test_a_refusal_is_a_page_where_a_page_is_wanted(world, calls):
    missing = world.get("/-/calls/zz", HTML)
    conflict = world.post(f"/-/calls/{calls['done']}/cancel", None, HTML)

    as_json = world.get("/-/calls/zz.json", HTML)

    assert header(as_json, b"content-type") == b"application/problem+json"
    assert (missing.status, header(missing, b"content-type")) == (404, b"text/html; charset=utf-8")
    assert (conflict.status, b"<h1>The call&#39;s state does not allow that</h1>" in conflict.body) == (409, True)


def test_the_style_sheet_is_public_and_its_address_changes_with_it(world):
    page = world.ask("GET", "/-/problems", b"", ()).body.decode()
    address = re.search(r'rel="stylesheet" href="([^"]+)"', page)[1]
    sheet = world.ask("GET", address, b"", ())

    assert (sheet.status, header(sheet, b"content-type")) == (200, b"text/css; charset=utf-8")
    assert b"prefers-color-scheme: dark" in sheet.body
    assert b"immutable" in header(sheet, b"cache-control")
    assert re.fullmatch(r"/-/static/console\.[0-9a-f]{10}\.css", address)


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["GET", "HEAD", "POST"]), st.booleans())
@example(b"workflows/%ff/a", b"", "GET", True)
@example(b"calls/%2e%2e/resolve", b"", "POST", False)
@example(b"static/../routes.py", b"", "GET", True)
@example(b"static/%2e%2e%2froutes.py", b"", "GET", True)
@example("workflows/²/³.json".encode(), b"from=%B2", "GET", False)
@settings(max_examples=150, deadline=None)
def test_no_address_makes_it_fail(path, query, method, html):
    world = World()
    request = ConsoleRequest(method, b"/-/" + path, query, (HOST, BEARER, *((HTML,) if html else ())), query)

    assert asyncio.run(world.console.answer(request)).status < 500


# The explanations of problems


def test_every_problem_the_code_states_is_explained():
    stated = set()
    for folder in ("gateway", "policies"):
        for file in (ROOT / folder).rglob("*.py"):
            stated |= set(re.findall(r'Problem\(\s*"([a-z-]+)"', file.read_text()))

    assert stated > {"in-doubt", "deferred", "unknown-upstream", "wrong-state"}
    assert stated <= PROBLEM_TYPES.keys()


def test_an_explanation_says_what_it_means_and_what_to_do(world):
    for slug in PROBLEM_TYPES:
        told = read(world.ask("GET", f"/-/problems/{slug}.json", b"", ()))
        page = world.ask("GET", f"/-/problems/{slug}", b"", (HTML,)).body

        assert told["type"] == f"/-/problems/{slug}"
        assert told["means"].endswith(".") and all(line.endswith(".") for line in told["cure"])
        assert b"What to do" in page
