"""`gimbal demo`: the main job end to end, on this machine alone, told step by step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.commands.options import AsJson
from gateway.commands.render import put, put_json, put_table
from gateway.problems import GimbalError

ORDER = "order-1138"

CONFIG = """\
listen = "127.0.0.1:0"

[upstreams.shop]
base_url = "{shop}"

[[upstreams.shop.operations]]
match = "POST /charges"
idempotency = {{ carrier = "header", name = "Idempotency-Key", window = "24h" }}
"""

PATIENCE = 30.0
"""Seconds the demonstration waits for any one thing before it says that something is wrong."""


def demo(as_json: AsJson = False) -> None:
    """Show the main job in a minute, offline: a flaky upstream, a crash, a resume, a drift, and the proof."""
    with tempfile.TemporaryDirectory(prefix="gimbal-demo-") as folder, ExitStack() as stack:
        story = Story(Path(folder), quiet=as_json)
        stack.callback(story.end)
        proof = tell(story)
    if as_json:
        put_json(proof)
    if proof["doubled"] or proof["missing"] or not proof["drift"]["whole"]:
        wrong = "an effect is missing or doubled, or a drift was not answered"
        raise GimbalError(f"the demonstration went wrong: {wrong}; please report it")


@dataclass
class Story:
    """The actors: a shop, a gateway, a workflow, each a process of its own."""

    folder: Path
    quiet: bool
    shop: subprocess.Popen[str] = field(init=False)
    shop_url: str = field(init=False)
    gateway: subprocess.Popen[str] = field(init=False)
    url: str = ""

    def __post_init__(self) -> None:
        self.shop = self._start("-m", "gateway.demo.shop", stdin=subprocess.PIPE)
        self.shop_url = self._line(self.shop)
        (self.folder / "gimbal.toml").write_text(CONFIG.format(shop=self.shop_url))

    def serve(self) -> None:
        """Start a gateway; a second start finds the same store."""
        self.gateway = self._start("-m", "gateway", "serve", "--json", *self._where())
        self.url = json.loads(self._line(self.gateway))["url"]

    def run(self) -> Iterator[dict[str, Any]]:
        """Run the workflow; yield what it says, a step's begin and its end. Stop the iteration to kill it."""
        workflow = self._start("-m", "gateway.demo.order", f"{self.url}/shop", ORDER)
        assert workflow.stdout is not None
        with killed(workflow):
            for line in workflow.stdout:
                yield json.loads(line)

    def gimbal(self, *words: str) -> str:
        """Run a command and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *words, *self._where()], capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            raise GimbalError(f"gimbal {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def effects(self) -> dict[str, Any]:
        """Return what really happened, as the shop itself counts it."""
        import httpx

        truth: dict[str, Any] = httpx.get(f"{self.shop_url}/effects", trust_env=False).json()
        return truth

    def end(self) -> None:
        for process in (getattr(self, "gateway", None), self.shop):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()
        self._stop_engine()

    def say(self, text: str = "") -> None:
        if not self.quiet:
            put(text)

    def _stop_engine(self) -> None:
        """A killed gateway leaves its engine running, for the next to find: here there is no next."""
        from gateway.engine import Engine

        engine = Engine(self.folder / "data")
        engine.ensure()
        os.kill(engine.status().pid, signal.SIGTERM)

    def _where(self) -> tuple[str, ...]:
        return "--config", str(self.folder / "gimbal.toml"), "--data", str(self.folder / "data")

    def _start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GIMBAL_")}
        return subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environ, cwd=self.folder, **options
        )

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise GimbalError(f"{' '.join(map(str, process.args))} ended before it began")  # type: ignore[arg-type]
        return line


def tell(story: Story) -> dict[str, Any]:
    """Tell the story; return the proof."""
    say = story.say
    say("A shop's API, as such APIs are: it loses answers, is busy, and takes its time.")
    say("A workflow of three steps without a single retry in it: charge, reserve, mail.")
    story.serve()
    say(f"\n1. The first run of {ORDER}, through the gateway")
    for told in story.run():
        if "status" in told:
            say(line_of(told))
        if told["step"].startswith("charge") and "status" in told:
            say(
                "      (the shop charged and hung up without an answer; the gateway asked again with the same key)"
            )
        if told["step"].startswith("reserve") and "status" in told:
            say("      (the shop said 429, come back in 1 s; the gateway did)")
        if told["step"].startswith("mail") and "status" not in told:
            until(lambda: story.effects()["requests"].get("mails") == 1)
            break  # which kills the workflow
    story.gateway.kill()
    story.gateway.wait()
    say("   kill -9   the gateway and the workflow, while the mail is under way")
    until(lambda: bool(story.effects()["effects"].get("mails")))

    story.serve()
    say("\n2. The gateway starts again; the workflow runs again, from its first line")
    stuck: dict[str, Any] = {}
    for told in story.run():
        if "status" in told:
            say(line_of(told))
            stuck = told
    say("      Nobody can know from here whether the mail went out, so it is not sent again. The gateway says so:")
    say()
    say(indent(story.gimbal("call", stuck["call"])))

    say("3. A person looks at the shop, finds the mail, and says so")
    mail = story.effects()["effects"]["mails"][0]
    answer = story.folder / "answer.json"
    answer.write_text(json.dumps(mail))
    story.gimbal("resolve", stuck["call"], "--applied", "--response", str(answer), "--status", "201")
    say(f"   gimbal resolve {stuck['call']} --applied --response answer.json --status 201")

    say("\n4. The workflow runs a third time, and finishes")
    for told in story.run():
        if "status" in told:
            say(line_of(told))

    level = survive(story)

    truth = story.effects()
    say("\nThe proof, as the shop counts it")
    rows = [
        [kind, "3", str(truth["requests"].get(kind, 0)), str(len(truth["effects"].get(kind, ())))]
        for kind in ("charges", "reservations", "mails")
    ]
    if not story.quiet:
        put_table(["what", "asked by workflow", "requests that reached the shop", "effects"], rows)
    counts = {kind: len(made) for kind, made in truth["effects"].items()}
    say("\nThree runs, a lost answer, a rate limit, a kill -9: every effect exactly once; and a field that moved.")
    return {
        "drift": level,
        "effects": counts,
        "requests": truth["requests"],
        "doubled": [kind for kind, count in counts.items() if count > 1],
        "missing": [kind for kind in ("charges", "reservations", "mails") if not counts.get(kind)],
    }


CUSTOMERS = range(1001, 1013)


def survive(story: Story) -> dict[str, Any]:
    """Let the shop rename a field under a workflow that reads it; return what the workflow saw of it."""
    import httpx

    say = story.say
    say("\n5. A nightly workflow reads customers, by the field `email`. The shop releases a new version")
    headers = {"Workflow-Type": "nightly-sync", "Workflow-Id": "sync-2026-11-22"}
    with httpx.Client(base_url=f"{story.url}/shop", headers=headers, trust_env=False) as workflow:

        def read() -> list[httpx.Response]:
            return [workflow.get(f"/customers/{number}") for number in CUSTOMERS]

        read()
        read()
        httpx.post(f"{story.shop_url}/release", trust_env=False)
        answers = read()
    raw: dict[str, Any] = httpx.get(f"{story.shop_url}/customers/{CUSTOMERS[-1]}", trust_env=False).json()
    whole = ["email" in answer.json() for answer in answers]
    after = whole.index(True) if True in whole else len(whole)
    last = answers[-1]
    say(f"   the shop answers    {json.dumps(raw)}")
    say(f"   the workflow reads  {last.text}")
    say(f"                       {last.headers['gimbal-outcome']}, level again after {after} answers")
    say(indent("\n".join(_why(story, last.headers["gimbal-call"]))).rstrip())
    return {"level_after": after, "whole": whole[-1]}


def _why(story: Story, call: str) -> list[str]:
    """Return the lines of the call's story that tell of the adaptation."""
    lines = story.gimbal("call", call).splitlines()
    at = next((number for number, line in enumerate(lines) if "was adapted" in line), len(lines))
    return [line.strip() for line in lines[at : at + 2]]


def line_of(told: dict[str, Any]) -> str:
    return f"   {told['step']:<18} {told['status']}   {told['outcome']}"


def indent(text: str) -> str:
    return "\n".join(f"      {line}" if line else "" for line in text.splitlines()) + "\n"


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > ends:
            raise GimbalError("the demonstration waited too long: is this machine very busy?")
        time.sleep(0.02)


@contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever ends the block, the process is gone after it."""
    try:
        yield
    finally:
        process.kill()
        process.wait()
