"""Headers -> whose step: what callers may write, what it means, and which requests are the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.exchange import Headers, Request
from gateway import identity
from gateway.identity import Malformed, fingerprint, forwarded, read_claimant, read_key
from gateway.prefer import Prefer
from policies.claims import Replays, StepKey, call_id, deliver, occur
from policies.rules import OperationRule, UpstreamRules, rules_for

SHOP = UpstreamRules("shop", "http://shop")


def headers(**named: str) -> Headers:
    return tuple((name.replace("_", "-").lower().encode(), value.encode()) for name, value in named.items())


def post(body: bytes = b"", target: bytes = b"/charges", **named: str) -> Request:
    return Request("POST", target, headers(**named), body)


JSON = {"content_type": "application/json"}
FORM = {"content_type": "application/x-www-form-urlencoded"}


def same(one: Request, other: Request) -> bool:
    return fingerprint("shop", one) == fingerprint("shop", other)


# Who calls


def test_all_control_headers_are_read():
    claimant = read_claimant(
        headers(
            Workflow_Id="order-1138",
            Workflow_Type="sync-order",
            Workflow_Step="charge",
            Workflow_Run="r1",
            Workflow_Progress="3/10",
            Idempotency_Key="abc",
            Prefer="wait=7",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
    )

    assert claimant.workflow == ("sync-order", "order-1138")
    assert (claimant.step, claimant.run, claimant.progress) == ("charge", "r1", 0.3)
    assert (claimant.key, claimant.marker, claimant.prefer) == ("abc", "abc", Prefer(wait=7.0))
    assert claimant.trace.startswith("00-4bf9")


def test_a_workflow_without_a_type_has_the_default_one():
    assert read_claimant(headers(Workflow_Id="w")).workflow == ("default", "w")


def test_names_may_be_anything_people_write():
    claimant = read_claimant(headers(Workflow_Id="Bestellung Nr. 7 — Köln", Workflow_Step="zahlen 💶"))

    assert claimant.workflow == ("default", "Bestellung Nr. 7 — Köln")
    assert claimant.step == "zahlen 💶"


def test_calls_without_identity_take_the_default_workflow_and_its_run():
    told = read_claimant((), ("default", "from-gimbal-run"), "r9")
    own = read_claimant(headers(Workflow_Id="mine"), ("default", "from-gimbal-run"), "r9")

    assert (told.workflow, told.run) == (("default", "from-gimbal-run"), "r9")
    assert (own.workflow, own.run) == (("default", "mine"), "")


def test_a_step_may_be_named_within_the_default_workflow():
    claimant = read_claimant(headers(Workflow_Step="charge"), ("default", "w"), "r")

    assert (claimant.workflow, claimant.step) == (("default", "w"), "charge")


def test_the_same_header_twice_with_one_value_is_one():
    assert read_claimant((*headers(Workflow_Id="w"), *headers(Workflow_Id="w"))).workflow == ("default", "w")


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        (headers(Workflow_Step="s"), "Workflow-Id"),
        (headers(Workflow_Run="r"), "Workflow-Id"),
        (headers(Workflow_Id=""), "workflow-id"),
        (headers(Workflow_Id=" "), "workflow-id"),
        (headers(Workflow_Id="w" * 256), "workflow-id"),
        (headers(Workflow_Id="w\tx"), "workflow-id"),
        (((b"workflow-id", b"\xff"),), "workflow-id"),
        ((*headers(Workflow_Id="a"), *headers(Workflow_Id="b")), "workflow-id"),
        (headers(Workflow_Id="w", Workflow_Type="idempotency-key"), "Workflow-Type"),
        (headers(Workflow_Progress="3 of 10"), "Workflow-Progress"),
        (headers(Workflow_Progress="1/0"), "Workflow-Progress"),
        (headers(Workflow_Progress="nan/1"), "Workflow-Progress"),
    ],
)
def test_what_cannot_be_read_names_the_header(given_, named):
    with pytest.raises(Malformed, match=named):
        read_claimant(given_)


# Idempotency-Key (draft-07)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'"abc";a=1', "abc"),
        (b'"a\\"b"', 'a"b'),
        (b" abc ", "abc"),
        (b"k" * 255, "k" * 255),
        (b"a,b;c=d", "a,b;c=d"),
    ],
)
def test_a_key_is_a_structured_string_or_a_bare_token(written, key):
    assert read_key(written) == key


@pytest.mark.parametrize(
    "written", [b"", b'""', b'"open', b'"a" "b"', b"two words", b"caf\xe9", b"k" * 256, b'"a b"']
)
def test_what_is_neither_is_malformed(written):
    with pytest.raises(Malformed):
        read_key(written)


def test_headers_go_on_in_order_without_ours():
    brought = headers(
        A="1", Workflow_Id="w", Prefer="wait=1, return=minimal", B="2", Idempotency_Key="k", Workflow_Step="s"
    )

    gone_on = forwarded(brought, read_claimant(brought).prefer)

    assert gone_on == headers(A="1", Prefer="return=minimal", B="2", Idempotency_Key="k")


# Which step


def step_of(
    claimant_headers: Headers, request: Request = post(), upstream: UpstreamRules = SHOP
) -> StepKey | None:
    rules = rules_for(upstream, request.method, request.path.decode())
    return identity.step_of(read_claimant(claimant_headers), upstream.name, "nightly", request, rules)


def test_a_named_step_of_a_workflow_is_the_step_whatever_key_the_sdk_mints():
    one = step_of(headers(Workflow_Id="w", Workflow_Step="s", Idempotency_Key="random-1"))
    other = step_of(headers(Workflow_Id="w", Workflow_Step="s", Idempotency_Key="random-2"))

    assert one == other == StepKey("default", "w", "s")


def test_a_key_alone_is_the_step_within_upstream_and_caller():
    step = step_of(headers(Idempotency_Key="abc"))

    assert step == StepKey("idempotency-key", "shop\nnightly", "abc")


def test_a_key_alone_is_told_every_definite_answer_and_a_workflow_only_effects():
    def replays(brought: Headers) -> Replays:
        claimant, request = read_claimant(brought), post()
        rules = rules_for(SHOP, "POST", "/charges")
        step = identity.step_of(claimant, "shop", "", request, rules)
        return identity.call_of(claimant, "shop", request, rules, step, "f", "").replays

    assert replays(headers(Idempotency_Key="abc")) is Replays.DEFINITE
    assert replays(headers(Workflow_Id="w", Workflow_Step="s")) is Replays.EFFECTS


def test_safe_calls_are_no_steps_unless_the_operation_says_so():
    get = Request("GET", b"/reports/7", ())
    named = headers(Workflow_Id="w", Workflow_Step="s")
    report = UpstreamRules("shop", "http://shop", operations=(OperationRule("GET /reports/{id}", replay=True),))

    assert step_of(named, get) is None
    assert step_of(named, get, report) == StepKey("default", "w", "s")


def test_an_operation_that_is_not_to_be_replayed_is_no_step():
    ping = UpstreamRules("shop", "http://shop", operations=(OperationRule("POST /charges", replay=False),))

    assert step_of(headers(Workflow_Id="w", Workflow_Step="s"), post(), ping) is None


def test_no_name_is_confused_with_another():
    ids = [
        call_id(StepKey("a", "b", "c")),
        call_id(StepKey("ab", "", "c")),
        call_id(StepKey("a", "bc", "")),
        call_id(StepKey("", "ab", "c")),
    ]

    assert len(set(ids)) == 4


def test_credentials_are_not_kept():
    request = post(b"x", authorization="Bearer secret", x_api_key="secret", cookie="a=secret", x_kept="1")

    assert identity.frozen(request) == post(b"x", x_kept="1")


# Which request


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (post(b'{"a":1,"b":[1,2]}', **JSON), post(b'{ "b": [1, 2], "a": 1 }', **JSON)),
        (
            post(b"{}", content_type="application/json"),
            post(b"{}", content_type="Application/JSON; charset=utf-8"),
        ),
        (post(b"a=1&b=2", **FORM), post(b"b=2&a=1", **FORM)),
        (post(b"a=%20x", **FORM), post(b"a=+x", **FORM)),
        (post(target=b"/c?a=1&b=2"), post(target=b"/c?b=2&a=1")),
        (post(authorization="a"), post(authorization="b")),
        (post(idempotency_key="a"), post(idempotency_key="b")),
        (post(amz_sdk_invocation_id="a", x_amz_date="1"), post(amz_sdk_invocation_id="b", x_amz_date="2")),
        (post(date="a", user_agent="b", traceparent="c"), post()),
        (post(accept="*/*"), post()),
        (
            post(b"--X1\r\nA: b\r\n\r\n1\r\n--X1--\r\n", content_type="multipart/form-data; boundary=X1"),
            post(b"--Y2\r\nA: b\r\n\r\n1\r\n--Y2--\r\n", content_type='multipart/form-data; boundary="Y2"'),
        ),
    ],
)
def test_what_means_the_same_is_the_same_request(one, other):
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (post(b'{"a":1}', **JSON), post(b'{"a":2}', **JSON)),
        (post(b'{"a":1}', **JSON), post(b'{"a":"1"}', **JSON)),
        (post(b'{"a":1}', **JSON), post(b'{"a":true}', **JSON)),
        (post(b"[1,2]", **JSON), post(b"[2,1]", **JSON)),
        (post(b"[" * 9999, **JSON), post(b"[" * 9998, **JSON)),
        (post(b"a=1&a=2", **FORM), post(b"a=1", **FORM)),
        (post(b"a=&b=1", **FORM), post(b"b=1", **FORM)),
        (post(b"a=%ff", **FORM), post(b"a=%fe", **FORM)),
        (post(b"item=1&item=2", **FORM), post(b"item=2&item=1", **FORM)),
        (post(target=b"/c?item=1&item=2"), post(target=b"/c?item=2&item=1")),
        (post(b'{"wei":1000000000000000000001}', **JSON), post(b'{"wei":1000000000000000000002}', **JSON)),
        (post(b'{"rate":0.12345678901234567891}', **JSON), post(b'{"rate":0.12345678901234567892}', **JSON)),
        (post(b"a=1", **FORM), post(b"a=1", content_type="text/plain")),
        (post(target=b"/a?b"), post(target=b"/a/b")),
        (post(target=b"/a%2Fb"), post(target=b"/a/b")),
        (post(x_amz_target="SQS.SendMessage"), post(x_amz_target="SQS.DeleteMessage")),
        (post(stripe_account="acct_1"), post(stripe_account="acct_2")),
        (post(soapaction="a"), post(soapaction="b")),
        (post(accept="application/json"), post(accept="text/csv")),
        (Request("POST", b"/a"), Request("PATCH", b"/a")),
    ],
)
def test_what_means_something_else_is_another_request(one, other):
    assert not same(one, other)


def test_the_same_request_to_another_upstream_is_another():
    assert fingerprint("shop", post()) != fingerprint("shop-test", post())


def test_a_boundary_that_occurs_in_the_content_changes_nothing_of_it():
    def part(boundary: bytes, content: bytes) -> Request:
        body = b"--%b\r\n\r\n%b\r\n--%b--" % (boundary, content, boundary)
        return post(body, content_type=f"multipart/form-data; boundary={boundary.decode()}")

    assert not same(part(b"X", b"1"), part(b"X", b"2"))
    assert same(part(b"a.b", b"1"), part(b"c+d", b"1"))


def test_headers_of_ones_own_can_join_the_fingerprint():
    one, other = post(x_tenant="a"), post(x_tenant="b")

    assert same(one, other)
    assert fingerprint("shop", one, ("x-tenant",)) != fingerprint("shop", other, ("x-tenant",))


KEYS = st.text(max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.randoms())
def test_json_is_the_same_in_any_order_and_spacing(value, random):
    names = list(value)
    random.shuffle(names)
    shuffled = {name: value[name] for name in names}

    assert same(
        post(json.dumps(value).encode(), **JSON),
        post(json.dumps(shuffled, indent=2, ensure_ascii=False).encode(), **JSON),
    )


@given(st.binary(max_size=50), st.sampled_from(["application/json", "multipart/form-data; boundary=x", "a/b", ""]))
def test_any_body_has_a_fingerprint_and_it_is_always_the_same(body, kind):
    request = Request("POST", b"/", ((b"content-type", kind.encode()),), body)

    assert same(request, request)


# Which occurrence


def test_occurrences_advance_after_delivery_and_never_for_an_sdks_own_repeat():
    count, first = occur(None, "m1")
    count, repeat_in_flight = occur(count, "m2")
    count = deliver(count, 1)
    assert count is not None
    count, sdk_repeat = occur(count, "m1")
    count, next_ = occur(count, "m3")

    assert (first, repeat_in_flight, sdk_repeat, next_) == (1, 1, 1, 2)


def test_an_unnamed_step_tells_what_it_asks_and_which_time():
    step = identity.unnamed(("default", "w"), post(b"x"), "0123456789abcdef0123", 2)

    assert step == StepKey("default", "w", "POST /charges 0123456789abcdef #2")


def test_a_secret_in_the_path_is_in_no_name_that_is_kept_in_clear():
    request = post(target=b"/hooks/sk_live_51H8abcdefghijklmnopqrstuv/1?q=1")
    step = identity.unnamed(("default", "w"), request, "0123456789abcdef0123", 2)

    assert identity.shown(step).step == "POST /hooks/[redacted]/1 0123456789abcdef #2"
    assert identity.operation_of(request.method, request.path) == "POST /hooks/[redacted]/1"
    history = identity.history_step(read_claimant(headers(Workflow_Id="w")), request)
    assert history.step == "POST /hooks/[redacted]/1"
    assert "sk_live" in step.step  # the call's id does not change with what is hidden
