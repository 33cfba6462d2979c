"""`gimbal explain FILE`: how recorded exchanges would be treated, and why."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, cast

import orjson
import typer

from discovery.exchange import Exchange, Json, Response
from discovery.redaction import redact_query, redact_text
from gateway.commands.render import clean
from gateway.problems import ConfigError
from gateway.recordings import Skipped, read_recording
from policies.explain import explain as explained


def explain(
    file: Annotated[Path, typer.Argument(help="Exchange JSONL (also .gz), a HAR, or a VCR cassette.")],
    json: Annotated[bool, typer.Option("--json", help="JSON even to a terminal; elsewhere it always is.")] = False,
) -> None:
    """Say how recorded exchanges would be treated: one JSON object a line, in order."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    talk = Console(stderr=True)
    skipped: list[Skipped] = []
    readable = sys.stdout.isatty() and not json
    columns = (TextColumn("reading {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as progress:
        task = progress.add_task(file.name, total=size)
        out = sys.stdout.buffer
        for found in read_recording(file, lambda done: progress.update(task, completed=done)):
            if isinstance(found, Skipped):
                skipped.append(found)
                continue
            answer = explained(found, time.time())
            out.write((_for_a_person(found, answer).encode() if readable else orjson.dumps(answer)) + b"\n")
        out.flush()
    for one in skipped[:20]:
        talk.print(f"skipped {one.where}: {one.why}", style="yellow", markup=False, highlight=False)
    if len(skipped) > 20:
        talk.print(f"skipped {len(skipped) - 20} more", style="yellow")


def _for_a_person(exchange: Exchange, answer: dict[str, Json]) -> str:
    """Say one exchange in a few lines: the call, what it came to, and each field and item that is named.

    Secrets are hidden, and what the upstream wrote cannot move the terminal.
    """
    request, came = exchange.request, exchange.answer
    status = came.status if isinstance(came, Response) else "no answer"
    target = redact_query(request.target).decode("utf-8", "replace")
    head = f"{request.method} {exchange.base_url}{target[:100]} -> {status}"
    retry = (
        answer["retry"] if answer["retry_after"] is None else f"{answer['retry']}, after {answer['retry_after']} s"
    )
    lines = [head, f"    {answer['outcome']}, effect {answer['effect']}, retry {retry}: {answer['why']}"]
    for field in cast(list[dict[str, Json]], answer["fields"]):
        lines.append(
            f"    field {field['pointer'] or '(the whole)'} {field['reason']}: {field.get('message', '')}"
        )
    for item in cast(list[dict[str, Json]], answer["items"]):
        state = {True: "done", False: "failed", None: "in doubt"}[cast("bool | None", item["ok"])]
        again = ", may be sent again" if item["retry"] else ""
        lines.append(f"    item {item['index']} ({item['key']}) {state}{again} {item.get('why', '')}".rstrip())
    return "\n".join(clean(redact_text(line)) for line in lines)
