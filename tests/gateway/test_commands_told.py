"""How calls are told and tables printed: pure parts, and what a terminal shows."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from discovery.exchange import Request, Response
from gateway.commands.options import again
from gateway.commands.render import clean
from gateway.commands.settle import read_answer
from gateway.commands.story import story
from gateway.ports import About, Entry
from gateway.spans import ago, spell
from gateway.views import call_view
from policies.claims import Record, State, StepKey
from policies.outcome import Effect, Outcome

KEY = StepKey("sync-order", "order-1138", "charge")
REQUEST = Request("POST", b"/charges?x=1", ((b"Accept", b"*/*"),), b'{"amount": 5}')


def told(state, transcript=(), reply=None, effect=Effect.NONE, outcome=None, items=b"", not_before=0.0):
    record = Record(state, "f", outcome=outcome, effect=effect, not_before=not_before)
    lines = tuple(json.dumps(line).encode() for line in transcript)
    entry = Entry(
        "c" * 26, About(KEY, "billing", "POST /charges", REQUEST), record, reply, lines, 90.0, 100.0, items
    )
    sections = story(call_view(entry), 160.0, lambda *words: " ".join(("gimbal", *words)))
    return {section.title: [line.text for line in section.lines] for section in sections}


def test_a_story_has_its_parts_in_order():
    parts = told(
        State.SUCCEEDED, reply=Response(201, (), b'{"id": 1}'), effect=Effect.ALL, outcome=Outcome.SUCCESS
    )

    assert list(parts) == [
        "POST /charges at billing: succeeded",
        "What was asked",
        "What happened",
        "What a repeat is told",
        "Where it stands",
        "What you can do now",
    ]
    assert parts["What was asked"] == ["POST /charges?x=1", "Accept: */*", '{"amount": 5}']
    assert parts["What a repeat is told"] == ["status 201", '{"id": 1}']
    assert parts["Where it stands"][0] == "succeeded, success, effect all, for 60 s"


def test_each_step_of_a_life_is_a_sentence():
    parts = told(
        State.SUCCEEDED,
        [
            {"at": 1, "did": "claim", "generation": 1, "resumed": False},
            {
                "at": 2,
                "did": "send",
                "status": 503,
                "outcome": "transient",
                "effect": "none",
                "why": "w",
                "took": 0.25,
            },
            {"at": 2, "did": "change", "state": "claimed", "why": "asked to wait"},
            {"at": 2, "did": "wait", "seconds": 90, "why": "asked to wait"},
            {"at": 3, "did": "change", "state": "sending"},
            {"at": 4, "did": "send", "fault": "wait", "outcome": "transient", "effect": "unknown", "why": "w"},
            {"at": 5, "did": "change", "state": "in-doubt"},
            {"at": 6, "did": "resolve", "applied": True, "by": "ann", "evidence": "seen"},
            {"at": 7, "did": "something-new", "n": 1},
        ],
    )

    assert [line[10:] for line in parts["What happened"]] == [
        "claimed (generation 1)",
        "attempt 1: status 503 after 250 ms: transient, effect none",
        "paused before the next attempt",
        "waited 90 s",
        "marked that it is being sent",
        "attempt 2: fault in phase wait: transient, effect unknown",
        "it became in-doubt",
        "settled as applied by ann: seen",
        'something-new {"n": 1}',
    ]


@pytest.mark.parametrize("state", State)
def test_every_state_says_where_a_call_stands_and_what_can_be_done(state):
    parts = told(state)

    assert all(parts["Where it stands"]) and len(parts["Where it stands"]) >= 2
    assert parts["What you can do now"]


def test_a_doubt_ends_with_the_command_lines_that_settle_it():
    lines = told(State.IN_DOUBT, effect=Effect.UNKNOWN)["What you can do now"]

    commands = [line.partition("  # ")[0] for line in lines]
    assert f"gimbal resolve {'c' * 26} --applied" in commands
    assert f"gimbal resolve {'c' * 26} --not-applied" in commands


def test_items_and_due_times_are_told():
    parts = told(State.WAITING, items=b'[{"key": "a", "state": "succeeded"}]', not_before=190.0)

    assert parts["Its items"] == ["a: succeeded"]
    assert "It is due in 30 s." in parts["Where it stands"]


def test_command_lines_reach_the_same_store_again_and_are_quoted():
    line = again("call", "x", config=None, data=Path("/a b"), store="unix:///s")

    assert line == "gimbal call x --data '/a b' --store unix:///s"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.25, "250 ms"),
        (1, "1 s"),
        (2.5, "2.5 s"),
        (30, "30 s"),
        (119, "119 s"),
        (300, "5 min"),
        (7200, "2 h"),
        (4e5, "5 d"),
    ],
)
def test_spans_are_said_in_their_largest_fitting_unit(seconds, said):
    assert spell(seconds) == said


def test_moments_are_said_as_people_say_them():
    assert ago(97, 100) == "3 s ago"
    assert ago(400, 100) == "in 5 min"
    assert ago(100.2, 100) == "just now"


def test_control_characters_are_shown_and_never_sent_to_a_terminal():
    assert clean("a\x1b[31m\x07b\tc\n\u202ed\x9b") == "a\\x1b[31m\\x07b c \\u202ed\\x9b"
    assert clean("plain, ünïcode ✓") == "plain, ünïcode ✓"


# The answer a person gives


def test_an_answer_is_read_as_curl_prints_it():
    text = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2 201 \r\ncontent-type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\ncontent-length: 3\r\nset-cookie: a=b\r\nset-cookie: c=d\r\n\r\n{}\n"
    )

    answer = read_answer(text, 200)

    assert answer == Response(
        201, ((b"content-type", b"application/json"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")), b"{}\n"
    )


def test_an_answer_is_read_as_a_body_alone():
    assert read_answer(b'{"id": 1}', 201) == Response(201, ((b"Content-Type", b"application/json"),), b'{"id": 1}')
    assert read_answer(b"\x00\x01", 200).headers == ((b"Content-Type", b"application/octet-stream"),)


# A terminal


def on_a_terminal(environ):
    """Return what `gimbal config show` sends to a terminal."""
    ours, theirs = pty.openpty()
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "config", "show"],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        cwd=root,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environ},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the last writer is gone
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert child.wait(30) == 0
    return seen


def test_a_terminal_gets_colour_unless_no_color_is_set():
    colourful, plain = on_a_terminal({}), on_a_terminal({"NO_COLOR": "1"})

    assert b"127.0.0.1:8470" in colourful
    assert b"\x1b[2m" in colourful
    assert b"\x1b[3" not in plain and b"\x1b[9" not in plain
