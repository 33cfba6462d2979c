"""The connection to the store: one write a turn, failures that fail what flew and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from gateway.link import Link, Script
from gateway.problems import LedgerUnavailable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(scenario(), 20)

    return asyncio.run(bounded())


@asynccontextmanager
async def store(serve: Serve) -> AsyncIterator[str]:
    """A store that answers as `serve` does."""
    with TemporaryDirectory(prefix="gimbal-") as home:
        path = Path(home) / "s"
        server = await asyncio.start_unix_server(serve, path)
        try:
            yield f"unix://{path}"
        finally:
            server.close()


def pong(answers: int) -> Serve:
    """Greets (two answers to redis-py's CLIENT SETINFO), answers so many commands, then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = answers
        while data := await reader.read(65536):
            greetings = data.count(b"SETINFO")
            writer.write(b"+OK\r\n" * greetings)
            pings = min(data.count(b"PING"), left)
            left -= pings
            writer.write(b"+PONG\r\n" * pings)
            await writer.drain()
            if not left:
                break
        writer.close()

    return serve


def test_answers_come_back_in_the_order_of_commands(store_url: str):
    async def scenario() -> list[bytes]:
        link = Link(store_url)
        try:
            return await asyncio.gather(*(link.do("ECHO", str(n)) for n in range(500)))
        finally:
            await link.aclose()

    assert run(scenario) == [str(n).encode() for n in range(500)]


def test_commands_of_one_turn_leave_in_one_write():
    async def scenario() -> None:
        seen: list[int] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 20):
                writer.write(b"+OK\r\n" * (data.count(b"SETINFO") + data.count(b"PING")))
                seen.append(data.count(b"PING"))
            writer.close()

        async with store(serve) as url:
            link = Link(url)
            await link.do("PING")
            await asyncio.gather(*(link.do("PING") for _ in range(100)))
            await link.aclose()
        assert seen[-2:] == [1, 100]

    run(scenario)


def test_a_script_the_store_forgot_is_told_it_again(store_url: str):
    async def scenario() -> list[Any]:
        link, script = Link(store_url), Script("return {KEYS[1], ARGV[1]}")
        first = await link.run(script, "k", 1)
        await link.do("SCRIPT", "FLUSH")
        many = await asyncio.gather(*(link.run(script, "k", n) for n in range(3)))
        await link.aclose()
        return [first, *many]

    assert run(scenario) == [[b"k", b"1"], [b"k", b"0"], [b"k", b"1"], [b"k", b"2"]]


def test_a_refusal_fails_its_own_command_alone(store_url: str):
    async def scenario() -> list[Any]:
        link = Link(store_url)
        told = await asyncio.gather(
            link.do("ECHO", "a"), link.do("NOPE"), link.do("ECHO", "b"), return_exceptions=True
        )
        await link.aclose()
        return told

    before, refused, after = run(scenario)
    assert (before, after) == (b"a", b"b")
    assert isinstance(refused, LedgerUnavailable) and "refused" in str(refused)


def test_a_lost_connection_fails_what_flew_and_the_next_command_connects_anew():
    async def scenario() -> None:
        async with store(pong(2)) as url:
            link = Link(url)
            told = await asyncio.gather(*(link.do("PING") for _ in range(4)), return_exceptions=True)
            again = await link.do("PING")
            await link.aclose()
        assert told[:2] == [b"PONG", b"PONG"] and again == b"PONG"
        assert all(isinstance(lost, LedgerUnavailable) and "not known" in str(lost) for lost in told[2:])

    run(scenario)


def test_a_connection_that_ended_while_idle_is_replaced_unnoticed():
    async def scenario() -> None:
        async with store(pong(1)) as url:
            link = Link(url)
            assert await link.do("PING") == b"PONG"
            while link.connected:
                await asyncio.sleep(0)
            assert await link.do("PING") == b"PONG"
            await link.aclose()

    run(scenario)


def test_a_store_that_hangs_is_given_up_in_time():
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
            writer.close()

        async with store(serve) as url:
            link = Link(url, timeout=0.05)
            with pytest.raises(LedgerUnavailable, match="no answer within"):
                await link.do("PING")
            await link.aclose()

    run(scenario)


def test_a_store_that_is_away_says_that_nothing_was_sent(tmp_path: Path):
    async def scenario() -> None:
        link = Link(f"unix://{tmp_path}/none")
        told = await asyncio.gather(link.do("PING"), link.do("PING"), return_exceptions=True)
        assert all(isinstance(lost, LedgerUnavailable) and "nothing was sent" in str(lost) for lost in told)
        await link.aclose()

    run(scenario)


def test_a_store_that_is_loading_its_journal_is_away():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
            writer.write(b"-LOADING the dataset is being loaded\r\n" * data.count(b"PING"))
        writer.close()

    async def scenario() -> None:
        async with store(serve) as url:
            link = Link(url)
            with pytest.raises(LedgerUnavailable, match="loaded"):
                await link.do("PING")
            with pytest.raises(LedgerUnavailable, match="loaded"):
                await link.do_all([("PING",), ("PING",)])
            await link.aclose()

    run(scenario)


def test_a_caller_that_gives_up_does_not_disturb_the_others(store_url: str):
    async def scenario() -> Any:
        link = Link(store_url)
        await link.do("PING")
        one = asyncio.ensure_future(link.do("ECHO", "one"))
        two = asyncio.ensure_future(link.do("ECHO", "two"))
        await asyncio.sleep(0)
        one.cancel()
        told = await two
        await link.aclose()
        return told

    assert run(scenario) == b"two"


def test_closing_fails_what_flies():
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
            writer.close()

        async with store(serve) as url:
            link = Link(url)
            flying = asyncio.ensure_future(link.do("PING"))
            while not link.connected:
                await asyncio.sleep(0)
            await link.aclose()
            with pytest.raises(LedgerUnavailable):
                await flying

    run(scenario)
