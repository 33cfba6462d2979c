"""What most commands take, and how it becomes settings. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The gimbal.toml to read; else GIMBAL_CONFIG, else ./gimbal.toml."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Where the embedded store lives; else GIMBAL_DATA, else your data directory."
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="redis://, rediss:// or unix://; else GIMBAL_STORE, else the embedded one."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Say it as JSON: one object, or one a line.")]
Upstreams = Annotated[
    list[str] | None, typer.Option("--upstream", metavar="NAME=URL", help="An API that may be called. Repeatable.")
]


def read_settings(
    config: Path | None,
    data: Path | None,
    store: str | None,
    *,
    upstreams: list[str] | None = None,
    listen: str | None = None,
    workers: int | None = None,
    secrets: bool = False,
) -> Settings:
    """Return the settings with these flags on top. `secrets`: only for commands that send or serve."""
    from gateway.settings import load

    said: dict[tuple[str | int, ...], tuple[str, Any]] = {}
    if data is not None:
        said["data",] = ("--data", str(data))
    if store is not None:
        said["store", "url"] = ("--store", store)
    if listen is not None:
        said["listen",] = ("--listen", listen)
    if workers is not None:
        said["workers",] = ("--workers", workers)
    for upstream in upstreams or []:
        name, equals, url = upstream.partition("=")
        if not name or not equals or not url:
            raise typer.BadParameter(f"should be NAME=URL, not {name!r}", param_hint="--upstream")
        said["upstreams", name, "base_url"] = (f"--upstream {name}", url)
    return load(config, said, secrets=secrets)


def again(*words: str, config: Path | None, data: Path | None, store: str | None) -> str:
    """Return a command line that reaches the same store as this one did."""
    flags = [("--config", config), ("--data", data), ("--store", store)]
    said = [word for flag, value in flags if value is not None for word in (flag, str(value))]
    return shlex.join(["gimbal", *words, *said])
