"""Real gateways in processes of their own, to be killed, stopped and started again on the same store."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import redis

PATIENCE = 30.0
"""Seconds a condition is waited for: long, for a busy machine; a passing test never takes them."""


class Serving:
    """`gimbal serve` in a process. `kill()` and `start()` may alternate; the base URL stays the same.

    Without `store` the embedded engine serves, which outlives the gateway on purpose: let `data` come from the
    fixture of that name, which ends it.
    """

    def __init__(self, upstreams: dict[str, str], data: Path, store: str | None = None, config: str = "") -> None:
        named = [word for name, url in upstreams.items() for word in ("--upstream", f"{name}={url}")]
        self._place = ["--data", str(data), *(["--store", store] if store else [])]
        if config:
            file = data.with_name(f"{data.name}.toml")
            file.write_text(config)
            self._place += ["--config", str(file)]
        self._words = ["serve", "--json", *named, *self._place]
        self._listen = "127.0.0.1:0"
        self.facts: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Serving:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            gimbal(*self._words, "--listen", self._listen), stdout=subprocess.PIPE, preexec_fn=die_with_parent
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"gimbal serve ended with {self._process.wait()} before it listened"
        self.facts = json.loads(line)
        self._listen = self.url.removeprefix("http://")

    def kill(self) -> None:
        """SIGKILL: no farewell, nothing flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def terminate(self) -> None:
        """SIGTERM: it ends in good order; wait until it has."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        self._process.communicate(timeout=2 * PATIENCE)
        self._process = None

    def ended(self) -> None:
        """Wait until it has ended by itself, and stopped as it should."""
        assert self._process is not None
        self._process.communicate(timeout=PATIENCE)
        self._process = None

    def stop(self) -> None:
        """SIGSTOP: it holds what it holds, and does not know that time goes on."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, verify=False, **options)

    def said(self, *words: str, code: int = 0) -> list[Any]:
        """Run a command on the same store and return the JSON objects it says. Its exit code is to be `code`."""
        done = subprocess.run(
            gimbal(*words, *self._place, "--json"), capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]


def emptied(store: str) -> str:
    """Empty a store that a module's tests share, so that nothing in it is sealed with another's key; return it."""
    with redis.Redis.from_url(store) as client:
        client.flushall()
    return store


def gimbal(*words: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *words]


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for `condition`; fail with its name when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {seconds:g} s: {condition}"
        time.sleep(0.005)


@contextlib.contextmanager
def process(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that ends with the block, and with us."""
    running = subprocess.Popen(command, preexec_fn=die_with_parent, **options)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def die_with_parent() -> None:
    """Ask Linux for SIGKILL when pytest dies, so that nothing it started outlives it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)
