"""The command line: `gimbal COMMAND`. Only the command that is asked for is imported.

Exit codes: 0 fine, 1 found problems, 2 usage, 3 unreachable, 4 refused. Our own failures say one line that names
the cure; a traceback is shown only with GIMBAL_DEBUG=1.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gateway.problems import GimbalError

COMMANDS = {
    "serve": ("serve", "run the gateway"),
    "demo": ("demo", "the main job in a minute, offline: a flaky upstream, a crash, a resume"),
    "run": ("run", "run a script with a gateway of its own in front"),
    "workflows": ("ledger", "list workflows: what is done, what waits, what is in doubt"),
    "calls": ("ledger", "list calls, newest first"),
    "call": ("ledger", "tell one call: what was asked, each attempt, why, what you can do now"),
    "resolve": ("settle", "settle a call in doubt"),
    "retry": ("settle", "run a waiting call now"),
    "cancel": ("settle", "give up a waiting call"),
    "learn": ("learn", "learn an API's contract from recorded traffic"),
    "contracts": ("contracts", "show what is known of an upstream"),
    "drift": ("drift", "show what changed at an upstream"),
    "pins": ("pins", "show the shapes workflows keep; accept a new one, or hold"),
    "lookups": ("lookups", "show what could settle doubts at an upstream; accept it"),
    "explain": ("explain", "say how recorded exchanges would be treated"),
    "config": ("config", "check the configuration; show where each value came from"),
    "doctor": ("doctor", "look at versions, store, disk and upstreams, and say what to do"),
}
"""Command -> module of `gateway.commands` and a line of help. There it is a function of the same name, or a
whole `app`."""


class Commands(TyperGroup):
    """The commands, each imported when it is asked for and not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"gateway.commands.{COMMANDS[cmd_name][0]}")
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(rich_markup_mode=None, add_completion=False)
            group.command(cmd_name)(getattr(module, cmd_name))
        return get_command(group)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


app = typer.Typer(
    cls=Commands,
    help="An adaptive gateway between workflows and the APIs they call: what is done stays done.",
    no_args_is_help=True,
    rich_markup_mode=None,  # `gimbal --help` must start at once; rich alone takes 0.1 s
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"gimbal {version('gimbal-gateway')}")
        raise typer.Exit


@app.callback()
def gimbal(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: the one place where our exceptions become exit codes."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app(prog_name="gimbal")
    except GimbalError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # `gimbal calls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if os.environ.get("GIMBAL_DEBUG"):
            raise
        _fail(f"{type(error).__name__}: {error}. A bug of Gimbal's: report it with what GIMBAL_DEBUG=1 shows", 1)


def _fail(text: str, code: int) -> None:
    for line in text.splitlines():
        print(f"gimbal: {line}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
