"""What is measured: each a server in front of the same upstream, on the core of the measured.

nginx and Caddy take part where they are installed. mitmproxy is installed by the bench into `.venv-bench/`.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from processes import OTHERS, SUBJECT, free_port, members, prefer, running, wait_for
from redis import Redis

from gateway.engine import Engine

ROOT = Path(__file__).parents[2]
BENCH_VENV = ROOT / ".venv-bench"
MITMPROXY = "mitmproxy==11.0.2"
"""The newest that Python 3.11 can install."""

KEPT = "30s"
"""How long Gimbal keeps records here: a bench fills no disk, and expiry is part of the cost."""

NGINX = """
pid {scratch}/{name}.pid;
error_log {scratch}/{name}.log crit;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {scratch}/{name}-body;
  proxy_temp_path {scratch}/{name}-proxy;
  fastcgi_temp_path {scratch}/{name}-fastcgi;
  uwsgi_temp_path {scratch}/{name}-uwsgi;
  scgi_temp_path {scratch}/{name}-scgi;
  {body}
}}
"""

ANSWER = '{"id": "ch_1", "object": "charge", "amount": 4200, "note": "' + "n" * 940 + '"}'


@dataclass(frozen=True, slots=True)
class Subject:
    """A server that is up. `pids` is what it costs; `engine` is the store beside it, on the other core."""

    name: str
    url: str
    pids: tuple[int, ...]
    engine: int | None = None
    store: Redis | None = None


Contestant = Callable[[str, Path], AbstractContextManager[Subject]]
"""Given the upstream's address and a scratch directory."""


def _nginx(name: str, scratch: Path, body: str, cores: set[int]) -> AbstractContextManager[int]:
    config = scratch / f"{name}.conf"
    config.write_text(NGINX.format(scratch=scratch, name=name, body=body))
    command = ["nginx", "-c", config, "-p", scratch, "-e", scratch / f"{name}.err", "-g", "daemon off;"]
    return running(command, cores, scratch / f"{name}.out")


@contextlib.contextmanager
def upstream(scratch: Path) -> Iterator[str]:
    """A server that answers every POST with 1 KB of JSON; yields HOST:PORT. nginx, else one of our own."""
    port = free_port()
    if shutil.which("nginx"):
        body = f"server {{ listen 127.0.0.1:{port} reuseport; location / {{ default_type application/json; "
        body += f"add_header X-Request-Cost 1; return 200 '{ANSWER}'; }} }}"
        server = _nginx("upstream", scratch, body, OTHERS)
    else:
        server = running(
            [sys.executable, Path(__file__).with_name("upstream.py"), str(port)], OTHERS, scratch / "u"
        )
    with server:
        wait_for(port)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def direct(address: str, scratch: Path) -> Iterator[Subject]:
    yield Subject("direct", f"http://{address}/charges", ())


@contextlib.contextmanager
def nginx(address: str, scratch: Path) -> Iterator[Subject]:
    port = free_port()
    body = f"""
  upstream up {{ server {address}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://up; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host $host; }} }}
"""
    with _nginx("nginx", scratch, body, SUBJECT) as group:
        wait_for(port)
        yield Subject("nginx", f"http://127.0.0.1:{port}/charges", tuple(members(group)))


@contextlib.contextmanager
def caddy(address: str, scratch: Path) -> Iterator[Subject]:
    port = free_port()
    config = scratch / "Caddyfile"
    config.write_text(
        f"{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n reverse_proxy {address}\n}}\n"
    )
    homes = {"XDG_DATA_HOME": str(scratch), "XDG_CONFIG_HOME": str(scratch)}
    command = ["caddy", "run", "--config", config, "--adapter", "caddyfile"]
    with running(command, SUBJECT, scratch / "caddy.log", homes) as group:
        wait_for(port)
        yield Subject("Caddy", f"http://127.0.0.1:{port}/charges", tuple(members(group)))


@contextlib.contextmanager
def mitmproxy(address: str, scratch: Path) -> Iterator[Subject]:
    port = free_port()
    command = [
        installed("mitmdump", MITMPROXY),
        *("--mode", f"reverse:http://{address}", "--listen-host", "127.0.0.1", "-p", str(port), "-q"),
        *("--set", f"confdir={scratch}/mitmproxy"),
    ]
    with running(command, SUBJECT, scratch / "mitmproxy.log") as group:
        wait_for(port)
        yield Subject("mitmproxy", f"http://127.0.0.1:{port}/charges", tuple(members(group)))


def gimbal(fsync: Literal["everysec", "always"]) -> Contestant:
    @contextlib.contextmanager
    def contestant(address: str, scratch: Path) -> Iterator[Subject]:
        data = scratch / f"gimbal-{fsync}"
        data.mkdir()
        config = data / "gimbal.toml"
        config.write_text(f'[retention]\nkeys = "{KEPT}"\n[store]\nfsync = "{fsync}"\n')
        port = free_port()
        engine = Engine(data, fsync)  # ours to start, so that it is on the other core; the gateway attaches
        url = engine.ensure()
        command = [
            *(Path(sys.executable).with_name("gimbal"), "serve", "--config", config, "--data", data),
            *("--listen", f"127.0.0.1:{port}", "--upstream", f"up=http://{address}"),
        ]
        try:
            with running(command, SUBJECT, scratch / f"gimbal-{fsync}.log") as group:
                wait_for(port)
                pid = engine.home.pid()
                prefer(pid)
                store = Redis.from_url(url)
                yield Subject(
                    f"Gimbal {fsync}",
                    f"http://127.0.0.1:{port}/up/charges",
                    tuple(members(group)),
                    pid,
                    store,
                )
                store.close()
        finally:
            engine.stop()

    return contestant


def present() -> dict[str, Contestant]:
    """Return who can take part here, in the order of the table."""
    every: dict[str, Contestant] = {
        "direct": direct,
        "nginx": nginx,
        "caddy": caddy,
        "mitmproxy": mitmproxy,
        "everysec": gimbal("everysec"),
        "always": gimbal("always"),
    }
    return {name: start for name, start in every.items() if name not in ("nginx", "caddy") or shutil.which(name)}


def installed(command: str, requirement: str) -> Path:
    """Return `command` of the bench's own environment, installing `requirement` there when it is missing."""
    path = BENCH_VENV / "bin" / command
    if not path.exists():
        print(f"installing {requirement} into {BENCH_VENV.name} (once)", file=sys.stderr, flush=True)
        venv.create(BENCH_VENV, with_pip=True)
        pip = [BENCH_VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", requirement], check=True)
    return path
