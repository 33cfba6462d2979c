"""`gimbal run -- CMD...`: run a script with a gateway of its own in front."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import typer

from gateway.commands.options import AsJson, Config, Data, Store, Upstreams, again, read_settings
from gateway.commands.render import put_json, say

NOT_FOUND, NOT_RUNNABLE, BY_SIGNAL = 127, 126, 128
"""Exit codes shells give for a command that is not there, cannot be run, or was ended by a signal (added)."""


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The script and its arguments.")],
    workflow_id: Annotated[
        str | None,
        typer.Option(
            "--workflow-id", metavar="ID", help="Resume this workflow; else a new one, printed to stderr."
        ),
    ] = None,
    workflow_type: Annotated[str, typer.Option("--workflow-type", metavar="TYPE", help="Its kind.")] = "default",
    upstream: Upstreams = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Run a script with a gateway of its own in front: GIMBAL_URL in its environment is the base URL.

    Calls without a Workflow-Id get this one's, and a fresh run. Run it again with the same id and what is done is
    replayed. The exit code is the script's own.
    """
    settings = read_settings(config, data, store, upstreams=upstream, listen="127.0.0.1:0", secrets=True)
    for warning in settings.warnings:
        say(f"warning: {warning}")
    workflow = workflow_id or f"run-{secrets.token_hex(4)}"
    from gateway.server import background

    with background(replace(settings, workers=1, default_workflow=(workflow_type, workflow))) as url:
        if as_json:
            put_json({"url": url, "workflow": {"type": workflow_type, "id": workflow}})
        else:
            named = [word for each in upstream or [] for word in ("--upstream", each)]
            resume = again("run", "--workflow-id", workflow, *named, config=config, data=data, store=store)
            say(f"workflow {workflow} (resume it with: {resume} -- …)")
        code = run_child(command, {**os.environ, "GIMBAL_URL": url})
    raise typer.Exit(code)


def run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `command` to its end and return its exit code; signals sent to us reach it."""
    try:
        child = subprocess.Popen(command, env=dict(environ))
    except FileNotFoundError:
        say(f"gimbal run: {command[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        say(f"gimbal run: {command[0]}: {(error.strerror or 'cannot be run').lower()}")
        return NOT_RUNNABLE
    # A terminal sends Ctrl-C to both of us: the script decides what it means, and we stay until it ended.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else BY_SIGNAL - code
