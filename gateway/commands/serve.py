"""`gimbal serve`: run the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from gateway.commands.options import AsJson, Config, Data, Store, Upstreams, read_settings
from gateway.commands.render import say

Listen = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="HOST:PORT", help="Where to listen; port 0 is any free one. [127.0.0.1:8470]"
    ),
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes that serve. [1]")]


def serve(
    upstream: Upstreams = None,
    listen: Listen = None,
    workers: Workers = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Run the gateway. Prints its base URL, console link and store."""
    settings = read_settings(config, data, store, upstreams=upstream, listen=listen, workers=workers, secrets=True)
    for warning in settings.warnings:
        say(f"warning: {warning}")
    if not settings.upstreams:
        say('no upstreams are named yet: --upstream NAME=URL, or [upstreams.NAME] base_url = "…" in gimbal.toml')
    from gateway.server import serve as run

    raise typer.Exit(run(replace(settings, json=as_json)))
