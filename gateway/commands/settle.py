"""`gimbal resolve`, `gimbal retry`, `gimbal cancel`: a person's word on a call."""

from __future__ import annotations

import getpass
import json
import re
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.ledger import CallId, entry_of, with_ledger
from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import put, put_json
from gateway.problems import GimbalError, Refused

if TYPE_CHECKING:
    from discovery.exchange import Response
    from gateway.ports import Ledger
    from gateway.settings import Settings
    from policies.claims import ChangeResult

HURRIED = {
    "waiting": "due now: a running gateway, or the next call of the step, sends it",
    "in-doubt": "a running gateway, or the next call of the step, looks now, if it has a key or a look-up",
    "accepted": "a running gateway asks now how it stands",
    "partial": "due now: a running gateway, or the next call of the step, sends its unfinished items",
}
"""What comes of a call that was hurried, by its state."""


def resolve(
    call: CallId,
    applied: Annotated[bool, typer.Option("--applied", help="It took effect.")] = False,
    not_applied: Annotated[bool, typer.Option("--not-applied", help="It did not.")] = False,
    response: Annotated[
        Path | None,
        typer.Option(
            "--response",
            metavar="FILE",
            help="The answer it gave: its body, or as `curl -i` prints it; - is stdin.",
        ),
    ] = None,
    status: Annotated[
        int, typer.Option("--status", min=200, max=299, help="The status of a FILE without one.")
    ] = 200,
    because: Annotated[str, typer.Option("--because", help="How you know; kept with the call.")] = "",
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Settle a call in doubt. Applied: a repeat is told the answer. Not applied: a repeat sends it anew."""
    if applied == not_applied:
        raise typer.BadParameter("say one of them", param_hint="--applied/--not-applied")
    if response is not None and not applied:
        raise typer.BadParameter("only goes with --applied", param_hint="--response")
    answer = None if response is None else read_answer(_content(response), status)
    line = _line("resolve", applied=applied, evidence=because or "a person said so")
    view = _settle(
        read_settings(config, data, store),
        call,
        lambda ledger: ledger.resolve(call, applied, answer, line),
    )
    told = (
        "a repeat of the step is told the recorded reply"
        if answer
        else "a repeat of the step is told that it took effect"
    )
    _done(view, as_json, told if applied else "a repeat of the step sends it")


def retry(
    call: CallId, as_json: AsJson = False, config: Config = None, data: Data = None, store: Store = None
) -> None:
    """Run a waiting call now, or look now for evidence of one in doubt: it is due at once."""
    view = _settle(read_settings(config, data, store), call, lambda ledger: ledger.hasten(call, _line("retry")))
    _done(view, as_json, HURRIED.get(view["state"], HURRIED["waiting"]))


def cancel(
    call: CallId, as_json: AsJson = False, config: Config = None, data: Data = None, store: Store = None
) -> None:
    """Give up a waiting call."""
    view = _settle(read_settings(config, data, store), call, lambda ledger: ledger.cancel(call, _line("cancel")))
    _done(
        view, as_json, "it may have taken effect: settle it" if view["state"] == "in-doubt" else "it is not sent"
    )


def read_answer(content: bytes, status: int) -> Response:
    """Return the answer a file holds: an HTTP message as `curl -i` prints it, or a body alone."""
    from discovery.exchange import Response
    from gateway.wire_head import forwardable

    while interim := re.match(rb"HTTP/[\d.]+ 1\d\d[^\n]*\n(?:[^\r\n]+\r?\n)*\r?\n", content):
        content = content[interim.end() :]
    head = re.match(rb"HTTP/[\d.]+ (\d{3})(?: ([^\r\n]*))?\r?\n((?:[^\r\n]+\r?\n)*)\r?\n", content)
    if head is None:
        if content.startswith(b"HTTP/"):
            raise GimbalError("--response: its head is broken off; save the answer with `curl -si URL > FILE`")
        return Response(status, ((b"Content-Type", _media_type(content)),), content)
    lines = [line.partition(b":") for line in head[3].splitlines()]
    headers = [(name.strip(), value.strip()) for name, colon, value in lines if colon]
    kept = tuple(header for header in forwardable(tuple(headers)) if header[0].lower() != b"content-length")
    return Response(int(head[1]), kept, content[head.end() :], head[2] or b"")


def _media_type(content: bytes) -> bytes:
    try:
        json.loads(content)
    except ValueError:
        return b"application/octet-stream"
    return b"application/json"


def _content(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise typer.BadParameter(f"{path}: {reason}", param_hint="--response") from None


def _settle(
    settings: Settings,
    call: str,
    act: Callable[[Ledger], Coroutine[Any, Any, ChangeResult]],
) -> dict[str, Any]:
    """Change the call and return its view; what the ledger's rules do not allow is `Refused`."""
    from gateway.views import call_view, standing
    from policies.claims import Outdated

    async def work(ledger: Ledger) -> dict[str, Any]:
        entry = await entry_of(ledger, call)
        match await act(ledger):
            case Outdated(record):
                record = record or entry.record
                raise Refused(
                    f"call {call} is {record.state}: {standing(record)} Nothing was changed; "
                    f"`gimbal call {call}` tells more"
                )
        return call_view(await entry_of(ledger, call))

    return with_ledger(settings, work)


def _done(view: dict[str, Any], as_json: bool, then: str) -> None:
    if as_json:
        put_json(view)
    else:
        put(f"{view['id']} is {view['state']}: {then}")


def _line(did: str, **members: object) -> bytes:
    """Return the transcript's line for what a person did."""
    try:
        by = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine, as in a bare container
        by = "a person"
    return json.dumps({"at": time.time(), "did": did, "by": by, **members}).encode()
