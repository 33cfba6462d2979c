"""Callbacks, on a real store and a real receiver: every end its caller did not wait for is told, once, signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from discovery.exchange import Fault, Header, Phase, Request, Response
from gateway.callbacks import BODY, body_of
from gateway.clock import SystemClock
from gateway.gate import Arrival, Gate, Identified, Known, Passed
from gateway.ledger import RedisLedger
from gateway.link import Link
from gateway.notices import Notices
from gateway.ports import About, Entry
from gateway.sweeper import Sweeper
from gateway.testing import ScriptedUpstream
from gateway.vault import Vault
from policies.claims import Callback, Record, State, StepKey
from policies.notices import Receiver, callback_of, signature
from policies.outcome import Effect, Outcome
from policies.rules import UpstreamRules

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CREATED = Response(201, ((b"content-type", b"application/json"),), b'{"id": 7, "api_key": "s3cr3t"}')
SOON = Response(429, ((b"retry-after", b"0.2"),))
LONG = Response(429, ((b"retry-after", b"60"),))
LOST = Fault(Phase.WAIT, "the connection was closed")
NO_WAIT: Header = (b"prefer", b"wait=0")
ASYNC: Header = (b"prefer", b"respond-async")


class Hook:
    """A receiver of notices: what it was sent, and the statuses it answers in turn, the last for ever."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses) or [204]
        self.notices: list[tuple[dict[str, str], Any]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = (line.partition(": ") for line in head.splitlines())
            headers = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            stamp = int(headers["webhook-timestamp"])
            assert headers["webhook-signature"] == signature(SECRET, headers["webhook-id"], stamp, body)
            self.notices.append((headers, json.loads(body)))
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
            await writer.drain()
        finally:
            writer.close()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.notices) < count:
                await asyncio.sleep(0.01)

    @property
    def kinds(self) -> list[str]:
        return [body["type"] for _, body in self.notices]


class Process:
    """One gateway process, as far as callbacks go."""

    def __init__(self, url: str, hook: str, *answers: Response | Fault, deadline: float = 60.0) -> None:
        self.ledger = RedisLedger(Link(url), Vault([b"k" * 32]))
        rules = UpstreamRules("billing", "http://billing.test", deadline=deadline)
        receivers = [Receiver("callback:default", hook, SECRET)]
        self.upstream = ScriptedUpstream(*answers)
        self.gate = Gate(
            {"billing": Known(rules, self.upstream)},
            self.ledger,
            SystemClock(),
            calls_back=lambda type: callback_of(type, {"callback:default"}) is not None,
        )
        self.notices = Notices(receivers, self.ledger, self.gate.runner)
        self.sweeper = Sweeper(self.gate, self.ledger, SystemClock(), notices=self.notices)

    async def post(self, *headers: Header, step: bytes = b"charge") -> Passed:
        identity = ((b"workflow-id", b"order-1"), (b"workflow-step", step), (b"content-type", b"application/json"))
        who = self.gate.identify(Arrival("billing", "POST", b"/charges", identity + headers))
        assert isinstance(who, Identified)
        return await self.gate.perform(who, b"{}")

    async def ends(self) -> list[str]:
        """Return the ends that are owed, whenever somebody looks at them."""
        found = [await self.ledger._link.do("ZRANGE", f"gimbal:{{s{shard}}}:due", 0, -1) for shard in range(256)]
        return [name.decode() for names in found for name in names if b"." in name]

    async def aclose(self) -> None:
        await self.gate.runner.aclose()
        await self.notices.aclose()
        await self.ledger.aclose()


@asynccontextmanager
async def hooked(*statuses: int) -> AsyncIterator[Hook]:
    hook = Hook(*statuses)
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0)
    hook.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield hook


@asynccontextmanager
async def sweeping(process: Process) -> AsyncIterator[None]:
    task = asyncio.create_task(process.sweeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await process.aclose()


def lived(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 40))


def test_the_end_of_a_deferred_call_is_told_with_its_reply_and_the_end_of_an_awaited_one_is_not(store_url: str):
    async def work() -> None:
        async with hooked() as hook:
            process = Process(store_url, hook.url, CREATED, SOON, CREATED)
            async with sweeping(process):
                await process.post(step=b"awaited")
                deferred = (await process.post(NO_WAIT)).call

                await hook.until(1)

                headers, told = hook.notices[0]
                assert told["type"] == "call.succeeded"
                assert (told["data"]["call"]["id"], told["data"]["call"]["sendings"]) == (deferred, 2)
                assert told["data"]["call"]["response"]["body"]["api_key"] != "s3cr3t"
                assert told["data"]["reply"] == {
                    "status": 201,
                    "content_type": "application/json",
                    "body": CREATED.body.decode(),
                }
                assert headers["content-type"] == "application/json"

    lived(work)


def test_an_end_outlives_the_process_that_made_it_and_is_told_under_one_id(store_url: str):
    async def work() -> None:
        async with hooked(500, 204) as hook:
            dead = Process(store_url, hook.url, LONG)
            call = (await dead.post(NO_WAIT)).call
            await dead.ledger.cancel(call, b"{}")
            (end,) = await dead.ends()
            await dead.sweeper._callbacks.tell(end)  # it dies before it drops the note, and the end is told again
            assert await dead.ends() == []
            await dead.ledger._link.do("ZADD", f"gimbal:{{s{int(call[:2], 16)}}}:due", 0, end)
            await dead.aclose()

            process = Process(store_url, hook.url)
            async with sweeping(process):
                await hook.until(1)
                notice = hook.notices[0][0]["webhook-id"]
                async with asyncio.timeout(10):
                    while (await process.ledger.entry(notice)).record.state is not State.WAITING:  # type: ignore[union-attr]
                        await asyncio.sleep(0.01)
                await process.ledger.hasten(notice, b"{}")
                await hook.until(2)

                assert hook.kinds == ["call.cancelled", "call.cancelled"]
                assert {headers["webhook-id"] for headers, _ in hook.notices} == {notice}
                assert await process.ends() == []

    lived(work)


def test_a_doubt_only_a_person_can_settle_is_told_and_so_is_its_settling(store_url: str):
    async def work() -> None:
        async with hooked() as hook:
            process = Process(store_url, hook.url, LOST)
            async with sweeping(process):
                call = (await process.post()).call
                await hook.until(1)
                await process.ledger.resolve(call, True, CREATED, b"{}")
                await hook.until(2)

                assert hook.kinds == ["call.in-doubt", "call.succeeded"]

    lived(work)


def test_a_deadline_that_passes_is_told(store_url: str):
    async def work() -> None:
        async with hooked() as hook:
            process = Process(store_url, hook.url, LONG, deadline=0.3)
            async with sweeping(process):
                await process.post(NO_WAIT)
                await hook.until(1)

                assert hook.kinds == ["call.exhausted"]

    lived(work)


def test_who_said_respond_async_is_told_even_of_an_answer_that_came_at_once(store_url: str):
    async def work() -> None:
        async with hooked() as hook:
            process = Process(store_url, hook.url, Response(404))
            async with sweeping(process):
                await process.post(ASYNC)
                await hook.until(1)

                assert hook.kinds == ["call.failed"]

    lived(work)


def test_an_end_whose_callback_is_unknown_here_is_left_to_others(store_url: str):
    async def work() -> None:
        async with hooked() as hook:
            process = Process(store_url, hook.url, LONG)
            process.notices.receivers.clear()
            call = (await process.post(NO_WAIT)).call
            await process.ledger.cancel(call, b"{}")
            (end,) = await process.ends()

            await process.sweeper._callbacks.tell(end)

            assert await process.ends() == [end]
            _, next_due = await process.ledger.take(int(call[:2], 16), 16, 2.0)
            assert 50 < next_due <= 60
            await process.aclose()

    lived(work)


def test_a_notice_that_would_be_too_long_leaves_the_bodies_out():
    request = Request("POST", b"/x", (), b"a" * BODY)
    about = About(StepKey("sync", "order-1", "charge"), "billing", "POST /x", request)
    record = Record(State.SUCCEEDED, "fp", outcome=Outcome.SUCCESS, effect=Effect.ALL, callback=Callback.OWED)
    entry = Entry("00" * 13, about, record, Response(200, (), b"b" * BODY), (), 1.0, 2.0)

    told = json.loads(body_of(entry, "call.succeeded"))

    assert told["data"]["reply"] is None
    assert told["data"]["call"]["shortened"] is True
    assert told["data"]["call"]["state"] == "succeeded"
