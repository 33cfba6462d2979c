"""Puts the parts together; the only file that knows them all."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from gateway.adapter import Adapter
from gateway.clock import SystemClock
from gateway.cluster import open_link
from gateway.contracts import RedisContracts
from gateway.drift_notices import DriftNotices
from gateway.engine import Engine
from gateway.gate import Gate, Known
from gateway.journal import Journal
from gateway.knowledge import Knowledge
from gateway.learner import Learner
from gateway.ledger import RedisLedger
from gateway.lookups import Lookups, LookupStore, LookupTold
from gateway.mender import Mender
from gateway.notices import Notices
from gateway.pins import lessons_beside, pins_beside
from gateway.problems import ConfigError, LedgerUnavailable
from gateway.settings import Settings
from gateway.shelf import keep_in_step
from gateway.store import Durability, examine, open_store
from gateway.sweeper import Sweeper
from gateway.upstream import open_upstream
from gateway.vault import KEY_BYTES, Vault, load_or_make_key
from policies.notices import callback_of
from policies.rules import UpstreamRules

KEY_FILE = "store-key"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a running gateway, opened together and closed together."""

    gate: Gate
    ledger: RedisLedger
    journal: Journal
    knowledge: Knowledge
    lookups: Callable[[str], Awaitable[list[LookupTold]]]
    adapter: Adapter
    mender: Mender
    contracts: RedisContracts
    durability: Durability
    engine: Engine | None
    store: str


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[RedisLedger]:
    """Open the ledger the settings name; the embedded engine is attached to, or started for as long as we look."""
    engine, url = await _store(settings)
    ledger = RedisLedger(await open_link(url), Vault(keys(settings)))
    try:
        yield ledger
    finally:
        await ledger.aclose()
        if engine is not None:
            await asyncio.to_thread(engine.stop)


@asynccontextmanager
async def open_contracts(settings: Settings) -> AsyncIterator[RedisContracts]:
    """Open what is known of upstreams, in the store the settings name."""
    engine, url = await _store(settings)
    contracts = RedisContracts(await open_link(url), Vault(keys(settings)))
    try:
        yield contracts
    finally:
        await contracts.aclose()
        if engine is not None:
            await asyncio.to_thread(engine.stop)


@asynccontextmanager
async def open_gateway(
    settings: Settings, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
) -> AsyncIterator[Gateway]:
    """Open a gateway. `transports` are the user's own, by upstream. Raises `GimbalError` naming the cure."""
    engine, url = await _store(settings)
    async with contextlib.AsyncExitStack() as stack:
        if engine is not None:
            stack.push_async_callback(asyncio.to_thread, engine.stop)
            watch = asyncio.create_task(engine.watch())
            stack.callback(watch.cancel)
        store = open_store(url)
        try:
            durability = await examine(store, embedded=engine is not None, confirm=settings.confirm)
        finally:
            await store.aclose()
        firm = await open_link(url, settings.confirm) if settings.confirm is not None else None
        ledger = RedisLedger(await open_link(url), Vault(keys(settings)), firm=firm)
        stack.push_async_callback(ledger.aclose)
        upstreams = {
            name: Known(rules, open_upstream(rules, (transports or {}).get(name)))
            for name, rules in settings.upstreams.items()
        }
        for known in upstreams.values():
            stack.push_async_callback(known.wire.aclose)
        contracts = RedisContracts(await open_link(url), Vault(keys(settings)))
        stack.push_async_callback(contracts.aclose)
        bases = {name: rules.base_url for name, rules in settings.upstreams.items()}
        learner = Learner(contracts, keys(settings)[0], bases)
        stack.push_async_callback(learner.aclose)
        journal = Journal()
        told = {receiver.name for receiver in settings.callbacks}
        adapter = Adapter(
            pins_beside(contracts), contracts, keys(settings)[0], lambda name: gate.upstreams[name].rules
        )
        mender = Mender(lessons_beside(contracts), contracts, ledger)
        gate = Gate(
            upstreams,
            ledger,
            SystemClock(),
            default_workflow=settings.default_workflow,
            keys_kept=settings.retention.keys,
            keeps_credentials=settings.store is None or settings.key is not None,
            observe=learner.observe,
            calls_back=(lambda type: callback_of(type, told) is not None) if told else None,
            adapter=adapter,
            mender=mender,
            hosts=settings.hosts,
        )
        stack.push_async_callback(adapter.aclose)
        stack.push_async_callback(mender.aclose)
        for name in upstreams:
            for part in (adapter, mender):
                with contextlib.suppress(LedgerUnavailable):  # it is read again; what comes passes
                    await part.refresh(name)
        stack.push_async_callback(_cancel, asyncio.create_task(keep_in_step([adapter, mender], [*upstreams])))
        stack.push_async_callback(gate.runner.aclose)
        lookups = Lookups(LookupStore(contracts.link), keys(settings)[0], gate, settings.upstreams)
        await lookups.refresh()
        gate.runner.listen(lookups.observe)
        stack.push_async_callback(_cancel, asyncio.create_task(lookups.run()))
        retention = settings.retention
        notices = Notices(settings.callbacks + settings.drift, ledger, gate.runner, kept=retention.ended)
        stack.push_async_callback(notices.aclose)
        if settings.drift:
            learner.on_changes = DriftNotices(notices, contracts).tell
        learner.start()
        sweeper = Sweeper(gate, ledger, SystemClock(), idle=retention.idle, ended=retention.ended, notices=notices)
        stack.push_async_callback(_cancel, asyncio.create_task(sweeper.run()))
        yield Gateway(
            gate,
            ledger,
            journal,
            Knowledge(contracts),
            lookups.told,
            adapter,
            mender,
            contracts,
            durability,
            engine,
            url,
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _store(settings: Settings) -> tuple[Engine | None, str]:
    if settings.store:
        return None, settings.store
    engine = Engine(settings.data, settings.fsync)
    return engine, await asyncio.to_thread(engine.ensure)


def keys(settings: Settings) -> list[bytes]:
    """Return the keys the store is sealed with: `GIMBAL_KEY` (several with commas, the newest first), else the
    data directory's own."""
    if not settings.key:
        return [load_or_make_key(settings.data / KEY_FILE)]
    return [_key(text.strip()) for text in settings.key.split(",")]


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ConfigError(
            "GIMBAL_KEY: should be 32 random bytes in base64; make one with: head -c 32 /dev/urandom | base64"
        )
    return raw


def rules_of(upstreams: Mapping[str, Known]) -> dict[str, UpstreamRules]:
    return {name: known.rules for name, known in upstreams.items()}
