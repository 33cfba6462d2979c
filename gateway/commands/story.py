"""A call told as a story: what was asked, each attempt, what it meant and why, where it stands, what to do now.

`story()` is pure: the call's view and the time -> sections of lines. How they are printed is `tell()`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import localtime, strftime
from typing import Any

from gateway.commands.render import COLOURS, clean, console, put
from gateway.spans import ago, spell
from gateway.views import STANDING

View = dict[str, Any]
Command = Callable[..., str]
"""Words of a command -> the line to type."""

BODY = 2000
"""Characters of a body that are told; `--json` has it whole."""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    style: str = ""
    under: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    lines: tuple[Line, ...]


def story(view: View, now: float, command: Command) -> tuple[Section, ...]:
    """Return the call's story. `command` spells the lines a person may type."""
    sections = [
        Section(_head(view), tuple(_who(view))),
        Section("What was asked", tuple(_asked(view["request"]))),
        Section("What happened", tuple(_happened(view["transcript"])) or (Line("nothing yet"),)),
    ]
    if view["items"]:
        sections.append(Section("Its items", tuple(_items(view["items"]))))
    if view["sent"] is not None:
        sections.append(Section("What was sent in its place", tuple(_asked(view["sent"]))))
    if view["original"] is not None:
        sections.append(Section("What the upstream answered", tuple(_answered(view["original"]))))
    if view["response"] is not None:
        sections.append(Section("What a repeat is told", tuple(_answered(view["response"]))))
    sections.append(Section("Where it stands", tuple(_stands(view, now))))
    sections.append(Section("What you can do now", tuple(_can(view, command))))
    return tuple(sections)


def tell(sections: tuple[Section, ...]) -> None:
    """Print a story: trees on a terminal, indented text in a pipe. No line is cut: some are to be copied."""
    if not sys.stdout.isatty():
        for section in sections:
            put(clean(section.title))
            for line in section.lines:
                put(f"  {clean(line.text)}")
                for under in line.under:
                    put(f"      {clean(under)}")
        return
    from rich.text import Text

    screen = console()
    for section in sections:
        screen.print(Text(clean(section.title), style="bold"), soft_wrap=True)
        for line in section.lines:
            last = line is section.lines[-1]
            guide = ("└── " if last else "├── ", "dim")
            screen.print(Text.assemble(guide, (clean(line.text), line.style)), soft_wrap=True)
            for under in line.under:
                guide = ("        " if last else "│       ", "dim")
                screen.print(Text.assemble(guide, (clean(under), "dim")), soft_wrap=True)


def _head(view: View) -> str:
    return f"{view['method']} {view['path']} at {view['upstream']}: {view['state']}"


def _who(view: View) -> Iterator[Line]:
    workflow = view["workflow"]
    yield Line(f"step {workflow['step']} of workflow {workflow['id']} ({workflow['type']})")
    yield Line(f"call {view['id']}, generation {view['generation']}, operation {view['operation']}")


def _asked(request: View) -> Iterator[Line]:
    query = f"?{request['query']}" if request["query"] else ""
    yield Line(f"{request['method']} {request['path']}{query}")
    yield from (Line(f"{name}: {value}", "dim") for name, value in request["headers"].items())
    if request["body"] not in ("", None):
        yield Line(_body(request["body"]))


def _answered(response: View) -> Iterator[Line]:
    yield Line(f"status {response['status']}")
    if response["body"] not in ("", None):
        yield Line(_body(response["body"]))


def _body(body: object) -> str:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return text if len(text) <= BODY else f"{text[:BODY]} … ({len(text) - BODY} more characters; --json has them)"


def _happened(transcript: list[View]) -> Iterator[Line]:
    attempt = 0
    for step in transcript:
        attempt += step.get("did") == "send"
        at = step.get("at")
        moment = strftime("%H:%M:%S", localtime(at)) if isinstance(at, int | float) else "--:--:--"
        sentence, colour = _sentence(step, attempt)
        under = tuple(str(step[member]) for member in ("detail", "why") if step.get(member))
        yield Line(f"{moment}  {sentence}", COLOURS.get(colour, ""), under)


def _sentence(step: View, attempt: int) -> tuple[str, str]:
    """Return what a step of the transcript says, and the word that colours it."""
    match step:
        case {"did": "claim"}:
            again = "claimed again, to go on with the same request" if step.get("resumed") else "claimed"
            return f"{again}{_of(step, 'generation')}", ""
        case {"did": "send"}:
            answer = _answer(step)
            outcome = str(step.get("outcome", ""))
            effect = f", effect {step['effect']}" if step.get("effect") else ""
            took = step.get("took")
            after = f" after {spell(took)}" if isinstance(took, int | float) else ""
            return f"attempt {attempt}: {answer}{after}: {outcome}{effect}", outcome
        case {"did": "wait", "seconds": int() | float() as seconds}:
            return f"waited {spell(seconds)}", ""
        case {"did": "change", "state": "claimed"}:
            return "paused before the next attempt", ""
        case {"did": "change", "state": "sending"}:
            return "marked that it is being sent", ""
        case {"did": "change", "state": str() as state}:
            return f"it became {state}", state
        case {"did": "adapt", "side": side}:
            return f"the {side} was adapted to its reader ({step.get('of')})", ""
        case {"did": "resolve"}:
            applied = "applied" if step.get("applied") else "not applied"
            evidence = f": {step['evidence']}" if step.get("evidence") else ""
            return f"settled as {applied}{_of(step, 'by')}{evidence}", "ok"
        case {"did": "retry"}:
            return f"told to run now{_of(step, 'by')}", ""
        case {"did": "cancel"}:
            return f"given up{_of(step, 'by')}", ""
        case _:
            rest = {name: value for name, value in step.items() if name not in ("at", "did", "why", "detail")}
            return (
                f"{step.get('did', 'something')} {json.dumps(rest, ensure_ascii=False) if rest else ''}".rstrip(),
                "",
            )


def _answer(step: View) -> str:
    match step:
        case {"status": int() as status}:
            return f"status {status}"
        case {"fault": "unknown"}:
            return "no answer was recorded"
        case _:
            return f"fault in phase {step.get('fault')}"


def _of(step: View, member: str) -> str:
    value = step.get(member)
    return "" if value in (None, "") else f" ({member} {value})" if member != "by" else f" by {value}"


def _items(items: list[Any]) -> Iterator[Line]:
    for item in items:
        state = str(item.get("state", "")) if isinstance(item, dict) else ""
        key = item.get("key", "?") if isinstance(item, dict) else item
        yield Line(f"{key}: {state}", COLOURS.get(state, ""))


def _stands(view: View, now: float) -> Iterator[Line]:
    state = view["state"]
    outcome = f", {view['outcome']}" if view["outcome"] and view["outcome"] != state else ""
    span = spell(max(0.0, now - view["updated"]))
    yield Line(f"{state}{outcome}, effect {view['effect']}, for {span}", COLOURS.get(state, ""))
    yield Line(STANDING.get(state, ""))
    if state == "waiting" and view["not_before"]:
        yield Line(f"It is due {ago(view['not_before'], now)}.")


def _can(view: View, command: Command) -> Iterator[Line]:
    call, can = view["id"], view["can"]
    lines: list[tuple[str, str]] = []
    if "resolve" in can:
        yield Line(f"Look at {view['upstream']} whether it took effect, and say which:")
        lines = [
            (command("resolve", call, "--applied"), "it took effect"),
            (command("resolve", call, "--applied", "--response", "FILE"), "it did, and FILE has its answer"),
            (command("resolve", call, "--not-applied"), "it did not: a repeat of the step sends it"),
        ]
    if "retry" in can:
        lines.append((command("retry", call), "look for evidence now" if "resolve" in can else "run it now"))
    if "cancel" in can:
        lines.append((command("cancel", call), "give it up"))
    yield from (Line(f"{line}  # {what}", "bold") for line, what in lines)
    if not can:
        yield Line("nothing; repeat the step in its workflow to go on")
