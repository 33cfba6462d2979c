"""The command line as people and scripts meet it: exit codes, messages, what goes to stdout and what to stderr."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from discovery.exchange import Request
from gateway.__main__ import COMMANDS, main
from gateway.compose import open_ledger
from gateway.ports import About
from gateway.settings import load
from policies.claims import Ask, Change, State, StepKey, call_id
from policies.outcome import Effect, Outcome

DOCS = Path(__file__).parents[2] / "docs"
REQUEST = Request(
    "POST",
    b"/charges?api_key=s3cr3t",
    ((b"Content-Type", b"application/json"),),
    b'{"amount": 5, "note": "\\u001b[31mred"}',
)


@pytest.fixture(autouse=True)
def an_empty_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("GIMBAL_", "XDG_DATA"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def gimbal(monkeypatch, capsys):
    """Run a command in this process; returns exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gimbal", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def store(store_url, monkeypatch):
    monkeypatch.setenv("GIMBAL_STORE", store_url)
    return store_url


def process(*words, **more):
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent), **more},
    )


def a_call(state, step="charge", effect=Effect.UNKNOWN, outcome=Outcome.IN_DOUBT):
    """Leave a call in `state` in the ledger; returns its id."""
    key = StepKey("sync-order", "order-1138", step)

    async def leave():
        async with open_ledger(load()) as ledger:
            about = About(key, "billing", "POST /charges", REQUEST)
            await ledger.claim(call_id(key), about, Ask("f", send=True))
            line = {"at": time.time(), "did": "send", "fault": "wait", "detail": "read timed out"}
            line |= {"outcome": "transient", "effect": "unknown", "why": "no answer (wait): read timed out"}
            wish = Change(state, outcome, effect, not_before=time.time() + 600 if state is State.WAITING else 0.0)
            await ledger.change(call_id(key), 1, wish, transcript=json.dumps(line).encode())

    asyncio.run(leave())
    return call_id(key)


# Help


def test_help_lists_every_command():
    found = process("--help")

    assert found.returncode == 0
    listed = [line.split()[0] for line in found.stdout.split("Commands:\n")[1].splitlines() if line[2] != " "]
    assert listed == list(COMMANDS)


def test_help_imports_nothing_heavy_and_so_starts_at_once():
    probe = (
        "import sys, runpy; sys.argv = ['gimbal', '--help']\n"
        "try: runpy.run_module('gateway', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*{'pydantic', 'redis', 'httpx', 'rich', 'uvicorn', 'asyncio'} & {*sys.modules}, file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=DOCS.parent, timeout=60, check=True
    )

    assert found.stderr.split() == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_and_speaks_json(gimbal, command):
    code, out, _ = gimbal(command, "--help")

    assert code == 0
    assert "--json" in out or "Commands:" in out


def test_every_command_and_its_options_are_documented(gimbal):
    page = (DOCS / "commands.md").read_text()

    for command in COMMANDS:
        assert f"`gimbal {command}" in page, f"docs/commands.md does not tell of gimbal {command}"
    for command in ("serve", "run", "workflows", "calls", "call", "resolve", "retry", "cancel", "doctor"):
        _, out, _ = gimbal(command, "--help")
        for option in {word.strip(",[]") for word in out.split() if word.startswith("--")}:
            assert f"`{option.partition('=')[0]}" in page, f"docs/commands.md does not tell of {command} {option}"


# Exit codes


def test_an_unknown_command_or_option_is_a_usage_error(gimbal):
    assert gimbal("nonsense")[0] == 2
    assert gimbal("calls", "--nonsense")[0] == 2
    assert gimbal("calls", "--state", "nonsense")[0] == 2
    assert gimbal("serve", "--upstream", "no-url")[0] == 2


def test_a_wrong_configuration_is_two_and_one_line_a_problem_without_traceback():
    Path("gimbal.toml").write_text("wrokers = 1\n")

    found = process("calls")

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "gimbal: gimbal.toml:1: wrokers: unknown key; did you mean workers?\n"


def test_an_unreachable_store_is_three_and_names_the_cure():
    found = process("calls", "--store", f"unix://{Path.cwd()}/nobody.sock")

    assert (found.returncode, found.stdout) == (3, "")
    assert found.stderr.startswith("gimbal: ")
    assert len(found.stderr.splitlines()) == 1


def test_an_unsafe_listen_address_is_refused_with_four():
    found = process("serve", "--listen", "0.0.0.0:0", "--upstream", "b=http://127.0.0.1:1")

    assert (found.returncode, found.stdout) == (4, "")
    assert "[callers]" in found.stderr


def test_a_failure_of_our_own_is_one_line(gimbal, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("gateway.settings.load", broken)

    code, out, err = gimbal("calls")

    assert (code, out) == (1, "")
    assert err == "gimbal: RuntimeError: boom. A bug of Gimbal's: report it with what GIMBAL_DEBUG=1 shows\n"


# The ledger, told


def test_an_empty_ledger_says_so_on_stderr(gimbal, store):
    code, out, err = gimbal("calls")

    assert (code, out) == (0, "")
    assert "no calls yet" in err


def test_calls_and_workflows_are_listed_for_people_and_for_programs(gimbal, store):
    doubtful, done = a_call(State.IN_DOUBT), a_call(State.FAILED, "mail", Effect.NONE, Outcome.REFUSED)

    _, table, _ = gimbal("calls")
    _, lines, _ = gimbal("calls", "--json")
    _, only, _ = gimbal("calls", "--in-doubt", "--json")
    _, flows, _ = gimbal("workflows", "--json")
    _, flow_table, _ = gimbal("workflows")

    assert table.splitlines()[0].split() == [
        "CALL",
        "WORKFLOW",
        "STEP",
        "UPSTREAM",
        "REQUEST",
        "STATE",
        "EFFECT",
        "LAST",
    ]
    assert "POST /charges" in table
    assert {json.loads(line)["id"] for line in lines.splitlines()} == {doubtful, done}
    assert [json.loads(line)["id"] for line in only.splitlines()] == [doubtful]
    assert json.loads(flows)["states"] == {"in-doubt": 1, "failed": 1}
    assert "order-1138" in flow_table


def test_a_call_is_told_as_a_story_that_ends_with_what_can_be_done(gimbal, store):
    call = a_call(State.IN_DOUBT)

    code, out, _ = gimbal("call", call, "--store", store)

    assert code == 0
    assert "POST /charges at billing: in-doubt" in out
    assert "attempt 1: fault in phase wait: transient, effect unknown" in out
    assert "no answer (wait): read timed out" in out
    assert f"gimbal resolve {call} --applied --store {store}" in out
    assert f"gimbal resolve {call} --not-applied --store {store}" in out


def test_no_secret_and_no_control_character_reaches_the_terminal(gimbal, store):
    call = a_call(State.IN_DOUBT)

    _, story, _ = gimbal("call", call)
    _, whole, _ = gimbal("call", call, "--json")

    assert "s3cr3t" not in story + whole
    assert "\x1b" not in story + whole


def test_a_call_that_is_not_there_is_a_problem(gimbal, store):
    for name in ("nonsense", "0" * 26):
        code, out, err = gimbal("call", name)
        assert (code, out) == (1, "")
        assert "`gimbal calls`" in err


# Settling


def test_a_doubt_settled_as_applied_keeps_the_answer_from_a_file(gimbal, store):
    call = a_call(State.IN_DOUBT)
    Path("answer.txt").write_bytes(b'HTTP/1.1 201 Created\r\nX-Id: 7\r\nContent-Length: 99\r\n\r\n{"id": 7}')

    code, out, _ = gimbal(
        "resolve", call, "--applied", "--response", "answer.txt", "--because", "seen in the dashboard", "--json"
    )

    view = json.loads(out)
    assert code == 0
    assert (view["state"], view["effect"]) == ("succeeded", "all")
    assert view["response"] == {"status": 201, "headers": {"X-Id": "7"}, "body": {"id": 7}}
    assert view["transcript"][-1]["evidence"] == "seen in the dashboard"


def test_a_doubt_settled_as_not_applied_is_free_to_be_sent(gimbal, store):
    call = a_call(State.IN_DOUBT)

    code, out, _ = gimbal("resolve", call, "--not-applied")

    assert (code, out) == (0, f"{call} is new: a repeat of the step sends it\n")


def test_what_is_not_in_doubt_cannot_be_settled(gimbal, store):
    call = a_call(State.FAILED, effect=Effect.NONE, outcome=Outcome.REFUSED)

    code, out, err = gimbal("resolve", call, "--applied")

    assert (code, out) == (4, "")
    assert "is failed: The upstream refused it; nothing took effect. Nothing was changed" in err


def test_settling_wants_to_be_told_which_way(gimbal, store):
    assert gimbal("resolve", "0" * 26)[0] == 2
    assert gimbal("resolve", "0" * 26, "--not-applied", "--response", "x")[0] == 2
    assert gimbal("resolve", "0" * 26, "--applied", "--not-applied")[0] == 2
    assert gimbal("resolve", "0" * 26)[0] == 2
    assert gimbal("resolve", "0" * 26, "--applied", "--response", "no-such-file")[0] == 2


def test_a_waiting_call_is_run_now_or_given_up_and_nothing_else_is(gimbal, store):
    waiting = a_call(State.WAITING, "one", Effect.NONE, Outcome.RATE_LIMITED)
    other = a_call(State.WAITING, "two", Effect.NONE, Outcome.RATE_LIMITED)
    failed = a_call(State.FAILED, "three", Effect.NONE, Outcome.REFUSED)

    _, told, _ = gimbal("call", waiting)
    code, out, _ = gimbal("retry", waiting, "--json")
    given_up = gimbal("cancel", other)

    assert "It is due in 10 min." in told
    assert (code, json.loads(out)["state"]) == (0, "waiting")
    assert json.loads(out)["not_before"] <= time.time() + 1
    assert given_up[:2] == (0, f"{other} is cancelled: it is not sent\n")
    assert gimbal("retry", failed)[0] == 4
    assert gimbal("cancel", failed)[0] == 4


# Configuration and health


def test_config_check_says_fine_or_what_is_wrong(gimbal):
    assert gimbal("config", "check")[:2] == (0, "no file, so defaults and environment: fine, 0 upstreams\n")
    Path("gimbal.toml").write_text('[upstreams.b]\nbase_url = "http://b.example"\nheaders = { Key = "literal" }\n')

    code, out, err = gimbal("config", "check")

    assert (code, out) == (0, "gimbal.toml: fine, 1 upstream\n")
    assert err.count("warning: gimbal.toml:") == 2
    assert "literal" not in err
    Path("gimbal.toml").write_text("nonsense = 1")
    code, out, err = gimbal("config", "check", "--json")
    assert (code, json.loads(out)["ok"], len(json.loads(out)["problems"])) == (2, False, 1)


def test_config_show_tells_origins_and_hides_secrets(gimbal, monkeypatch):
    monkeypatch.setenv("GIMBAL__STORE__URL", "redis://me:s3cr3t@there")

    _, table, _ = gimbal("config", "show")
    _, lines, _ = gimbal("config", "show", "--json", "--data", "/d")

    shown = {(line := json.loads(text))["name"]: line for text in lines.splitlines()}
    assert shown["data"] == {"name": "data", "value": "/d", "origin": "--data"}
    assert shown["store.url"]["origin"] == "GIMBAL__STORE__URL"
    assert "s3cr3t" not in table + lines


def test_config_schema_is_json(gimbal):
    assert json.loads(gimbal("config", "schema")[1])["title"] == "gimbal.toml"


def test_doctor_is_content_with_a_sound_place_and_a_listening_upstream(gimbal, store):
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        url = f"http://127.0.0.1:{upstream.getsockname()[1]}"
        code, out, _ = gimbal("doctor", "--json", "--upstream", f"b={url}")

    found = {(line := json.loads(text))["what"]: line for text in out.splitlines()}
    assert code == 0, out
    assert found["upstream b"]["state"] == "ok"
    assert found["data directory"]["state"] == "ok"
    assert found["versions"]["seen"].startswith("Gimbal ")


def test_doctor_says_what_to_do_about_what_it_finds(gimbal):
    data = Path("data")
    data.mkdir()
    data.chmod(0o755)
    (data / "admin-token").write_text("x")
    (data / "admin-token").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    code, out, _ = gimbal(
        *("doctor", "--json", "--data", "data", "--store", f"unix://{Path.cwd()}/nobody.sock"),
        *("--upstream", f"b=http://127.0.0.1:{port}"),
    )

    found = [json.loads(text) for text in out.splitlines()]
    states = {(line["what"], line["state"]) for line in found}
    assert code == 1
    assert {("data directory", "warning"), ("admin token", "problem")} <= states
    assert {("store", "problem"), ("upstream b", "problem")} <= states
    assert all(line["do"] for line in found if line["state"] == "problem")


# Running a script


class Counting(BaseHTTPRequestHandler):
    """An upstream that counts what took effect."""

    effects = 0

    def do_POST(self):
        type(self).effects += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def counting():
    Counting.effects = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_script_run_again_with_its_workflow_id_replays_what_is_done(store, counting):
    script = (
        "import os, sys, urllib.request\n"
        "print(urllib.request.urlopen(os.environ['GIMBAL_URL'] + '/counting/charges', b'{}').status)\n"
        "sys.exit(7)"
    )
    words = (
        "run",
        "--workflow-id",
        "w-1",
        "--upstream",
        f"counting={counting}",
        "--",
        sys.executable,
        "-c",
        script,
    )

    first, second = process(*words), process(*words)

    assert (first.returncode, first.stdout) == (7, "201\n"), first.stderr
    assert (second.returncode, second.stdout) == (7, "201\n"), second.stderr
    assert Counting.effects == 1


def test_run_says_which_workflow_it_made_up_and_that_a_command_is_not_there(store):
    found = process("run", "--", "no-such-command-anywhere")

    assert found.returncode == 127
    assert "--workflow-id run-" in found.stderr
    assert "no such command" in found.stderr


def test_serve_makes_its_admin_token_readable_by_its_owner_alone(store):
    found = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--listen", "127.0.0.1:0", "--json", "--data", "data"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
    )
    try:
        banner = json.loads(found.stdout.readline())
    finally:
        found.terminate()
        found.communicate(timeout=30)

    assert banner["url"].startswith("http://127.0.0.1:")
    assert stat.S_IMODE(Path("data/admin-token").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("data").stat().st_mode) == 0o700
