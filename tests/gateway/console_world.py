"""A small past for the console: every state a call can be in, told by the real rules on a clock of its own."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from discovery.exchange import Request, Response
from gateway.console import Console, ConsoleRequest
from gateway.ports import About
from gateway.testing import MemoryLedger
from policies.claims import Ask, Change, State, StepKey, call_id
from policies.outcome import Effect, Outcome
from policies.rules import Idempotency, Lookup, OperationRule, Rate, UpstreamRules

ADMIN = "an-admin-token-of-forty-characters-or-so"
SIGNING = b"signing"
BEARER = (b"authorization", f"Bearer {ADMIN}".encode())
HOST = (b"host", b"127.0.0.1:8470")

UPSTREAMS = {
    "billing": UpstreamRules(
        "billing",
        "https://api.billing.example/v2",
        headers=(("Authorization", "Bearer s3cr3t-injected"),),
        idempotency=Idempotency("header", "Idempotency-Key", 86400.0),
        rate=Rate(100, 60, 20),
        operations=(
            OperationRule("POST /charges", lookup=Lookup("/charges?ref={body.ref}", "/data/0", 60.0)),
            OperationRule("POST /search", safe=True),
        ),
    ),
    "mail": UpstreamRules("mail", "http://127.0.0.1:9025", timeout=5.0, attempts=3),
}


def live(coroutine):
    """Run to its end, on a thread of its own: playwright keeps a loop running on the tests' thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class Clock:
    """A clock that stands still until somebody sleeps."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []
        self.when_slept: Callable[[], Awaitable[object] | None] = lambda: None

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def chance(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept.append(seconds)
        if (happening := self.when_slept()) is not None:
            await happening


class World:
    """A ledger with a past, and a console over it."""

    def __init__(self, **more: object) -> None:
        self.clock = Clock()
        self.foreign = "<p>an upstream's page</p>"
        self.ledger = MemoryLedger(self.clock)
        self.console = Console(
            self.ledger, UPSTREAMS, self.clock, admin=ADMIN, signing=SIGNING, token_at="/data/admin-token", **more
        )

    def get(self, path: str, *headers: tuple[bytes, bytes], method: str = "GET"):
        return self.ask(method, path, b"", (HOST, BEARER, *headers))

    def post(self, path: str, body: object = None, *headers: tuple[bytes, bytes]):
        raw = b"" if body is None else json.dumps(body).encode()
        return self.ask("POST", path, raw, (HOST, BEARER, (b"content-type", b"application/json"), *headers))

    def ask(self, method: str, path: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...]):
        target, _, query = path.encode().partition(b"?")
        return live(self.console.answer(ConsoleRequest(method, target, query, headers, body)))

    async def call(
        self,
        id: str,
        step: str,
        state: State,
        *,
        type: str = "sync-order",
        upstream: str = "billing",
        request: Request | None = None,
        reply: Response | None = None,
        told: tuple[dict[str, object], ...] = (),
        effect: Effect | None = None,
        after: float = 0.0,
        took: float = 0.4,
    ) -> str:
        """Live a call up to `state`; return its id."""
        name = StepKey(type, id, step)
        asked = request or charge(id)
        operation = f"{asked.method} {asked.path.decode()}"
        about = About(name, upstream, operation, asked)
        call = call_id(name)
        claimed = await self.ledger.claim(call, about, Ask("f", send=state is not State.CLAIMED))
        fence = claimed.result.record.fence
        lines = [{"at": self.clock.time, "did": "claim", "generation": 1, "attempt": 1}]
        lines += [{"at": self.clock.time + told_at(line), **without_at(line)} for line in told]
        self.clock.time += took
        if state in ENDS:
            outcome, known = ENDS[state]
            wish = Change(state, outcome, effect or known, not_before=self.clock.time + after if after else 0.0)
            lines.append({"at": self.clock.time, "did": "change", "state": state.value, "why": "as told above"})
            text = b"\n".join(json.dumps(line).encode() for line in lines)
            await self.ledger.change(call, fence, wish, reply=reply, transcript=text)
        return call


ENDS = {
    State.SUCCEEDED: (Outcome.SUCCESS, Effect.ALL),
    State.REJECTED: (Outcome.VALIDATION, Effect.NONE),
    State.FAILED: (Outcome.REFUSED, Effect.NONE),
    State.WAITING: (Outcome.RATE_LIMITED, Effect.NONE),
    State.EXHAUSTED: (Outcome.TRANSIENT, Effect.NONE),
    State.IN_DOUBT: (Outcome.IN_DOUBT, Effect.UNKNOWN),
}


def told_at(line: dict[str, object]) -> float:
    return float(line.get("at", 0.0))


def without_at(line: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in line.items() if name != "at"}


def charge(ref: str) -> Request:
    headers = ((b"Content-Type", b"application/json"), (b"Accept", b"*/*"), (b"X-Api-Key", b"s3cr3t-in-header"))
    body = {"ref": ref, "amount": 4200, "currency": "eur", "card": {"cvc": "s3cr3t-cvc", "exp": "11/29"}}
    return Request("POST", b"/charges?expand=customer&token=s3cr3t-in-query", headers, json.dumps(body).encode())


CREATED = Response(
    201,
    ((b"Content-Type", b"application/json"), (b"X-Request-Id", b"req_81"), (b"Set-Cookie", b"sid=s3cr3t-cookie")),
    b'{"id": "ch_1138", "status": "succeeded", "amount": 4200, "customer": {"name": "J\xc3\xb6rg <b>"}}',
)


def sent(at: float, outcome: str, effect: str, why: str, took: float, **answer: object) -> dict[str, object]:
    return {"at": at, "did": "send", **answer, "outcome": outcome, "effect": effect, "why": why, "took": took}


def waited(at: float, seconds: float, why: str) -> dict[str, object]:
    return {"at": at, "did": "wait", "seconds": seconds, "why": why}


def with_a_past(world: World) -> dict[str, str]:
    """Fill the world; return calls by name."""
    return live(_live(world))


async def _live(world: World) -> dict[str, str]:
    calls = {}
    clock = world.clock
    calls["done"] = await world.call(
        "order-1138",
        "charge",
        State.SUCCEEDED,
        reply=CREATED,
        took=1.9,
        told=(
            sent(
                0.01, "transient", "none", "never sent (connect): refused", 0.02, fault="connect", detail="refused"
            ),
            waited(0.04, 0.2, "never sent; safe to repeat"),
            sent(0.25, "rate-limited", "none", "status 429: too many requests", 0.11, status=429),
            waited(0.36, 1.0, "status 429; waiting the 1 s it asks for"),
            sent(1.4, "success", "all", "status 201", 0.45, status=201),
        ),
    )
    clock.time += 0.6
    why = "status 422: the request is invalid"
    calls["rejected"] = await world.call(
        "order-1138",
        "invoice",
        State.REJECTED,
        reply=Response(422, ((b"Content-Type", b"application/json"),), b'{"error": "due_date is required"}'),
        told=(sent(0.0, "validation", "none", why, 0.2, status=422),),
    )
    clock.time += 1.1
    why = "no answer (wait): timed out after 30 s"
    calls["doubt"] = await world.call(
        "order-1138",
        "notify customer",
        State.IN_DOUBT,
        upstream="mail",
        took=30.1,
        request=Request("POST", b"/messages", ((b"Content-Type", b"text/plain"),), b"Your order is on its way."),
        told=(sent(0.0, "transient", "unknown", why, 30.0, fault="wait", detail="timed out after 30 s"),),
    )
    clock.time += 40
    why = "status 429; the upstream asks to wait 300 s"
    calls["waiting"] = await world.call(
        "order-1139",
        "charge",
        State.WAITING,
        after=300.0,
        told=(sent(0.0, "rate-limited", "none", why, 0.3, status=429),),
    )
    why = "status 503 with Retry-After; 5 attempts are used up"
    calls["exhausted"] = await world.call(
        "nightly/2026-11-22",
        "refund",
        State.EXHAUSTED,
        type="reconcile",
        told=(sent(0.0, "transient", "none", why, 0.3, status=503),),
    )
    calls["failed"] = await world.call(
        "nightly/2026-11-22",
        "close month",
        State.FAILED,
        type="reconcile",
        reply=Response(403, (), b"forbidden"),
        told=(sent(0.0, "refused", "none", "status 403", 0.1, status=403),),
    )
    clock.time += 3
    return calls


@contextlib.contextmanager
def served(world: World) -> Iterator[str]:
    """Serve the world's console on a free port; yield its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            told = self.headers.items()
            headers = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in told)
            path, _, query = self.path.encode().partition(b"?")
            if path.startswith(b"/-/"):
                request = ConsoleRequest(self.command, path, query, headers, body)
                with lock:
                    answer = asyncio.run(world.console.answer(request))
                self.reply(answer.status, answer.headers, answer.body)
            else:  # an upstream's own page, as a browser sees it through the gateway
                page = world.foreign.encode()
                self.reply(200, ((b"content-type", b"text/html"), (b"content-length", b"%d" % len(page))), page)

        do_POST = do_GET

        def reply(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name.decode(), value.decode("latin-1"))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    lock = threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
