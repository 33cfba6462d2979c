"""A server in front of a real one that lets only some items of a batch through, the first time it sees them.

What it holds back it answers for itself, as an overloaded service does: "this one later". Everything it lets
through reaches the real server, which alone decides what took effect.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Split = Callable[[bytes], tuple[bytes, Callable[[bytes], bytes]] | None]
"""Body of a batch -> the body to pass on, and how its answer becomes one with failures; None: pass it all."""


class HalfBatch:
    """The stand-in. `seen` has the bodies that came; `url` is where it listens."""

    def __init__(self, server: str, split: Split) -> None:
        self.seen: list[bytes] = []
        self._real = httpx.Client(base_url=server, trust_env=False, timeout=20)
        self._split = split
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.seen.append(body)
                status, headers, answer = outer.answer(self.command, self.path, dict(self.headers.items()), body)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        split = self._split(body)
        passed, join = split if split is not None else (body, lambda answer: answer)
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "content-length")}
        real = self._real.request(method, path, headers=kept, content=passed)
        skip = ("content-length", "transfer-encoding", "content-encoding", "connection")
        told = [(name, value) for name, value in real.headers.items() if name.lower() not in skip]
        return real.status_code, told, join(real.content)

    @contextlib.contextmanager
    def serving(self) -> Iterator[HalfBatch]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._real.close()
