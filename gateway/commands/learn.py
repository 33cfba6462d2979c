"""`gimbal learn FILE... --upstream NAME`: learn an API's contract from recorded traffic."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import put_json, say
from gateway.problems import ConfigError

if TYPE_CHECKING:
    from discovery.drift_watch import Watch
    from discovery.exchange import Exchange
    from discovery.traffic import Evidence
    from gateway.settings import Settings
    from policies.proposals import Proposer

TOLD = 5
"""Reasons for skipping that are told, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it, as `--json` prints it. `skipped`: reason -> how many."""

    upstream: str
    learned: int
    skipped: dict[str, int]
    operations: int
    revision: int


def learn(
    files: Annotated[list[Path], typer.Argument(help="Exchange JSONL (also .gz), HAR, or VCR cassettes.")],
    upstream: Annotated[str, typer.Option("--upstream", metavar="NAME", help="The API the traffic belongs to.")],
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Only traffic below it is learned, and its path cut off."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Learn files that were learned before once more.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Learn what an API accepts and returns from recorded traffic. Says what was skipped, and why.

    A file whose content was learned before is passed over, so an interrupted run is resumed by repeating it.
    """
    settings = read_settings(config, data, store)
    rules = settings.upstreams.get(upstream)
    base = base_url or (rules.base_url if rules else "")
    told = asyncio.run(_learn(files, upstream, base, again, settings))
    if as_json:
        put_json(asdict(told))
        return
    for why, count in told.skipped.items():
        say(f"skipped {count}: {why}")
    say(
        f"{upstream}: learned from {told.learned} exchanges; {told.operations} operations known, "
        f"revision {told.revision}"
    )


async def _learn(files: list[Path], upstream: str, base_url: str, again: bool, settings: Settings) -> Told:
    from discovery.contract import Contract
    from gateway.changes import judge
    from gateway.compose import keys, open_contracts
    from gateway.learner import revise
    from gateway.lookups import LookupStore
    from policies.proposals import Proposer

    skipped: Counter[str] = Counter()
    learned = 0
    async with open_contracts(settings) as contracts:
        key = keys(settings)[0]
        for file in files:
            digest = _digest(file, upstream)
            if not again and await contracts.learned(upstream, digest):
                skipped[f"{file.name} was learned before (--again learns it once more)"] += 1
                continue
            proposer = Proposer(key)
            evidence, watch, count = _fold(file, upstream, base_url, key, skipped, proposer)
            if count:
                await LookupStore(contracts.link).add(upstream, *proposer.take())
                await contracts.remember(upstream, watch.state())
                await contracts.add(upstream, evidence.state(), source=digest)
            learned += count
        number, _ = await revise(contracts, upstream, base_url, time.time())
        revision = await contracts.revision(upstream)
        await judge(contracts, upstream)
    operations = len(Contract(revision.document).operations) if revision is not None else 0
    return Told(upstream, learned, dict(skipped.most_common(TOLD)), operations, number)


def _digest(file: Path, upstream: str) -> str:
    """Return the digest of a file's content, by which it is known again."""
    digest = blake2b(upstream.encode(), digest_size=16)
    try:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    return digest.hexdigest()


def _fold(
    file: Path, upstream: str, base_url: str, key: bytes, skipped: Counter[str], proposer: Proposer
) -> tuple[Evidence, Watch, int]:
    from discovery.drift_watch import Watch
    from discovery.exchange import Response
    from discovery.traffic import Evidence
    from gateway.learner import accepted
    from policies.outcome import classify

    evidence, watch, count = Evidence(key), Watch(key), 0
    now = time.time()
    for exchange in _read(file, upstream, skipped):
        prefix = _prefix(exchange, base_url)
        if prefix is None:
            skipped[f"not below {base_url}"] += 1
            continue
        taken = None
        if isinstance(exchange.answer, Response):
            taken = accepted(classify(exchange.request, exchange.answer, now))
        if why := evidence.fold(exchange, taken, prefix):
            skipped[why] += 1
        else:
            watch.fold(exchange, prefix)
            proposer.fold(_below(exchange, prefix))
            count += 1
    return evidence, watch, count


def _prefix(exchange: Exchange, base_url: str) -> str | None:
    """Return the path that the base URL puts before templates, or None when the exchange is not below it."""
    from urllib.parse import urlsplit

    if not base_url:
        return ""
    base = urlsplit(base_url)
    host = urlsplit(exchange.base_url).netloc
    if host and host.lower() != base.netloc.lower():
        return None
    prefix = base.path.rstrip("/")
    path = exchange.request.path.decode("utf-8", "replace")
    return prefix if not prefix or path == prefix or path.startswith(prefix + "/") else None


def _below(exchange: Exchange, prefix: str) -> Exchange:
    """Return the exchange with its target as it is below the base URL, where look-ups are asked."""
    if not prefix:
        return exchange
    target = exchange.request.target.removeprefix(prefix.encode())
    return replace(exchange, request=replace(exchange.request, target=target))


def _read(file: Path, upstream: str, skipped: Counter[str]) -> Iterator[Exchange]:
    from gateway.recordings import Skipped, read_recording

    with _progress(file) as advanced:
        for found in read_recording(file, advanced, upstream):
            if isinstance(found, Skipped):
                skipped[found.why] += 1
            else:
                yield found


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    talk = Console(stderr=True)
    columns = (TextColumn("learning {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as progress:
        task = progress.add_task(file.name, total=file.stat().st_size)
        yield lambda done: progress.update(task, completed=done)
