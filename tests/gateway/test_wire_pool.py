"""The wire's pool: few connections for many requests, and nobody's place is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discovery.exchange import Phase, Response
from tests.gateway.wire_peer import FakeUpstream, Peer, answering, never
from tests.gateway.wire_world import GET, OK, until, wire


def test_many_requests_share_a_few_connections(run):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            client = wire(peer, limit=4)
            answers = await asyncio.gather(*(client.send(GET, timeout=5) for _ in range(200)))
            await client.aclose()
            return {answer.status for answer in answers}, peer.accepted

    assert run(main()) == ({200}, 4)


def test_who_gets_no_connection_in_time_is_told_so(run):
    async def main():
        async with FakeUpstream(never) as peer:
            client = wire(peer, limit=1, connect_timeout=0.1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            await until(lambda: peer.accepted == 1)
            answer = await client.send(GET, timeout=5)
            first.cancel()
            return answer

    answer = run(main())

    assert (answer.phase, answer.unsent, answer.timed_out) == (Phase.POOL, True, True)


@pytest.mark.parametrize("ending", ["cancel", "answer", "refused"])
def test_whoever_leaves_the_queue_or_a_connection_leaves_its_place_to_the_next(run, ending):
    go = asyncio.Event()

    async def held(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        if ending == "answer":
            await peer.send(OK)
            await answering(OK)(peer)
        peer.reset()

    async def main():
        async with FakeUpstream(held, answering(OK)) as peer:
            client = wire(peer, limit=1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            await until(lambda: peer.accepted == 1)
            impatient = asyncio.ensure_future(client.send(GET, timeout=5))
            patient = asyncio.ensure_future(client.send(GET, timeout=5))
            await asyncio.sleep(0)
            impatient.cancel()
            if ending == "cancel":
                first.cancel()
            go.set()
            answer = await patient
            await asyncio.gather(first, impatient, return_exceptions=True)
            last = await client.send(GET, timeout=5)
            await client.aclose()
            return answer.status, last.status

    assert run(main()) == (200, 200)


@pytest.mark.parametrize("told", ["released", "lost"])
def test_who_is_cancelled_with_a_place_in_hand_passes_it_on(run, told):
    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(OK if told == "released" else b"")
        if told == "released":
            await answering(OK)(peer)

    go = asyncio.Event()

    async def main():
        async with FakeUpstream(script, answering(OK)) as peer:
            client = wire(peer, limit=1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            await until(lambda: peer.accepted == 1)
            impatient = asyncio.ensure_future(client.send(GET, timeout=5))
            await asyncio.sleep(0)
            original = getattr(client, told)

            def and_cancel(connection: Any) -> None:
                original(connection)
                impatient.cancel()

            setattr(client, told, and_cancel)
            go.set()
            await asyncio.gather(first, impatient, return_exceptions=True)
            answer = await client.send(GET, timeout=5)
            await client.aclose()
            return impatient.cancelled(), answer

    cancelled, answer = run(main())

    assert cancelled
    assert isinstance(answer, Response), answer


def test_closing_ends_what_is_going_on_and_refuses_what_comes(run):
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    async def main():
        async with FakeUpstream(script) as peer:
            client = wire(peer)
            task = asyncio.ensure_future(client.send(GET, timeout=5))
            await asked.wait()
            await client.aclose()
            return await task, await client.send(GET, timeout=5)

    ended, refused = run(main())

    assert ended.phase is Phase.WAIT
    assert refused.phase is Phase.UNSENT
