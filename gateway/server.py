"""Runs the gateway as a server: one process, or several that share a listening socket and die together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from gateway.clock import SystemClock
from gateway.compose import Gateway, open_gateway, rules_of
from gateway.console import Console
from gateway.door import Door
from gateway.engine import Engine
from gateway.listening import GRACE, Listening
from gateway.pinboard import Pinboard
from gateway.problems import ConfigError, GimbalError
from gateway.settings import Settings
from gateway.tokens import FILE, admin_token, capability, signing_keys


def serve(settings: Settings) -> int:
    """Serve until told to stop; return the exit code. Prints where it listens once it does."""
    admin_token(settings.data)
    listener = listen(settings)
    if settings.workers == 1:
        return run(_serve(settings, listener, lambda gateway: announce(settings, listener, gateway)))
    return _several(settings, listener)


@contextlib.contextmanager
def background(settings: Settings) -> Iterator[str]:
    """Serve in a thread of this process; yields the base URL."""
    admin_token(settings.data)
    listener = listen(settings)
    ready = threading.Event()
    state: dict[str, Any] = {}

    def work() -> None:
        try:
            run(_serve(settings, listener, lambda _: ready.set(), state))
        except BaseException as error:
            state["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="gimbal", daemon=True)
    thread.start()
    ready.wait()
    if "error" in state:
        raise state["error"]
    try:
        yield base_url(listener)
    finally:
        state["server"].stop()
        thread.join(GRACE)


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket. Raises `ConfigError` for an address that cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {settings.listen}: {(error.strerror or str(error)).lower()}; "
            "stop what holds it, or choose another with --listen HOST:PORT (port 0: any free one)"
        ) from None
    listener.setblocking(False)
    return listener


def base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(settings: Settings, listener: socket.socket, gateway: Gateway) -> None:
    """Say where the gateway listens, how to look at it, and what its store promises."""
    import json

    url = base_url(listener)
    console = f"{url}/-/login?token={admin_token(settings.data)}"
    store = gateway.durability
    if settings.json:
        facts = {
            "url": url,
            "console": console,
            "store": {"engine": store.engine, "version": store.version, "embedded": store.embedded},
            "upstreams": sorted(settings.upstreams),
        }
        print(json.dumps(facts), flush=True)  # noqa: T201
        return
    kind = "embedded " if store.embedded else ""
    lines = [f"Gimbal listens on {url}", f"  console    {console}"]
    lines.append(f"  store      {kind}{store.engine} {store.version}: {store.promise}")
    lines += [f"  {name:<10} {url}/{name}/  ->  {rules.base_url}/" for name, rules in settings.upstreams.items()]
    print("\n".join(lines), flush=True)  # noqa: T201
    for warning in store.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)  # noqa: T201


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _serve(
    settings: Settings,
    listener: socket.socket,
    ready: Callable[[Gateway], None],
    state: dict[str, Any] | None = None,
) -> int:
    async with open_gateway(settings) as gateway:
        spare_the_collector()
        signing = signing_keys(settings.data, settings.key)
        door = Door(
            gateway.gate,
            gateway.journal,
            console=console_of(settings, gateway, signing),
            callers=dict(settings.callers),
            capability=lambda call: capability(signing[0], call),
        )
        server = Listening(door.receive, settings.limits.headers, gateway.gate.runner.adopted)
        if state is not None:
            state["server"] = server
        await server.run(listener, lambda: ready(gateway))
    return 0


def spare_the_collector() -> None:
    """Let the garbage collector pass over what is loaded for good, and come by less often.

    A call leaves no cycles behind, yet makes a hundred objects: by default it is looked for cycles every few
    calls, 3 % of a call's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def console_of(settings: Settings, gateway: Gateway, signing: tuple[bytes, ...]) -> Console:
    def trouble() -> str:
        status = gateway.engine.status() if gateway.engine else None
        return "" if status is None or status.alive else status.why

    return Console(
        gateway.ledger,
        rules_of(gateway.gate.upstreams),
        SystemClock(),
        admin=admin_token(settings.data),
        signing=signing[0],
        signed_before=signing[1:],
        hosts=settings.hosts,
        token_at=str(settings.data / FILE) if settings.loopback else f"the data directory's {FILE}",  # no path
        kept=settings.retention.ended,
        metrics=gateway.journal.metrics,
        trouble=trouble,
        contracts=gateway.knowledge,
        lookups=gateway.lookups,
        pins=Pinboard(gateway.contracts),
    )


def _several(settings: Settings, listener: socket.socket) -> int:
    """Fork workers around one socket; they end with us, and one that dies is replaced."""
    engine = None if settings.store else Engine(settings.data, settings.fsync)
    if engine is not None:
        engine.ensure()
    children: set[int] = set()
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    def start(first: bool) -> None:
        child = os.fork()
        if child:
            children.add(child)
            return
        code = 3
        try:
            _die_with_parent()
            ready = (lambda gateway: announce(settings, listener, gateway)) if first else (lambda _: None)
            code = run(_serve(settings, listener, ready))
        except GimbalError as error:
            print(f"gimbal: {error}", file=sys.stderr, flush=True)  # noqa: T201
            code = error.exit_code
        finally:
            os._exit(code)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for number in range(settings.workers):
        start(first=number == 0)
    worst = 0
    while children:
        try:
            child, status = os.wait()
        except ChildProcessError:
            break
        children.discard(child)
        code = os.waitstatus_to_exitcode(status)
        if stopping or code in (2, 3, 4):  # told to end, or it says it cannot serve
            worst = max(worst, code if code > 0 else 0)
            if not stopping:
                stop()
        else:
            start(first=False)
    if engine is not None:
        engine.stop()
    return worst


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies; elsewhere a worker outlives a killed parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(0)
