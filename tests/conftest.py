"""What every test may ask for: a real store, or a data directory whose embedded engine ends with the test.

No engine outlives the tests, however they end: each hangs on a leash, a shell that waits for our end of its
standard input to close, which a killed pytest does too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.engine_binary import find_binary
from gateway.engine_home import Home

RUN = '"$0" "$@" & read _; kill -9 $!'
"""Runs one engine until the leash is let go."""

SWEEP = 'read _; find "$0" -name engine.pid -exec cat {} + | xargs kill -9'
"""Ends the embedded engines under a directory when the leash is let go."""


@contextlib.contextmanager
def leash(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell command that ends with us; a session of its own keeps Ctrl-C from it."""
    pipe = subprocess.PIPE
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        ["sh", "-c", *command], stdin=pipe, stdout=silent, stderr=silent, start_new_session=True
    ) as held:
        yield held  # leaving closes its standard input and waits


@pytest.fixture(scope="session")
def engine_url() -> Iterator[str]:
    """One real engine a worker, on a private socket, with a journal that is never synced (for speed)."""
    with tempfile.TemporaryDirectory(prefix="gimbal-test-", ignore_cleanup_errors=True) as home:
        socket = f"{home}/engine.sock"
        command = [find_binary().path, "--port", "0", "--unixsocket", socket, "--dir", home]
        command += ["--appendonly", "yes", "--appendfsync", "no", "--save", "", "--maxmemory-policy", "noeviction"]
        with leash(RUN, *command) as held:
            await_answer(f"unix://{socket}", held)
            yield f"unix://{socket}"


@pytest.fixture
def store_url(engine_url: str) -> str:
    """The URL of an empty store. It is emptied before the test, so a failed one leaves its keys to be read."""
    with redis.Redis.from_url(engine_url) as client:
        client.flushall()
    return engine_url


@pytest.fixture(scope="session")
def kennel() -> Iterator[Path]:
    """A directory with a short path in which every embedded engine ends with us."""
    with (
        tempfile.TemporaryDirectory(prefix="gimbal-test-", ignore_cleanup_errors=True) as home,
        leash(SWEEP, home),
    ):
        yield Path(home)


@pytest.fixture
def data(kennel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory that does not exist yet, for an `Engine` or for a command's `GIMBAL_DATA`.

    Sockets are kept beside it, child processes included. Engines started in it end with the test.
    """
    with tempfile.TemporaryDirectory(dir=kennel, ignore_cleanup_errors=True) as home:
        monkeypatch.setenv("XDG_RUNTIME_DIR", home)
        yield Path(home) / "data"
        for lock in Path(home).rglob("alive.lock"):
            engine = Home(lock.parent)
            if engine.lives():  # else its process number may be anybody's by now
                os.kill(engine.pid(), signal.SIGKILL)


@pytest.fixture
def small_disk(data: Path) -> Iterator[Path]:
    """As `data`, on a disk of 4 MB."""
    data.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(data)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield data
    home = Home(data / "engine")
    if home.lives():
        os.kill(home.pid(), signal.SIGKILL)
    subprocess.run(["umount", "--lazy", str(data)], check=True)


def await_answer(url: str, held: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and held.poll() is None:
        with (
            contextlib.suppress(redis.ConnectionError),
            redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client,
        ):
            if client.ping():
                return
        time.sleep(0.01)
    pytest.fail("the tests' engine did not answer within 20 s")
