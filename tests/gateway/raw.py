"""Raw sockets on both sides of a door: an upstream that says exactly these bytes, a caller that does too."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPResponse

Answer = bytes | Callable[[socket.socket, bytes], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawUpstream:
    """Reads whole requests and gives `answer` to each: bytes, or a script given the socket and the request.

    A script that returns leaves the connection open for the next request; one that raises closes it.
    """

    def __init__(self) -> None:
        self.answer: Answer = OK
        self.seen: list[bytes] = []
        self.begun = self.broken = 0  # requests that began, and those that broke off
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def answering(self, answer: Answer) -> RawUpstream:
        """Start anew with `answer`."""
        self.seen.clear()
        self.begun = self.broken = 0
        self.answer = answer
        return self

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            while connection.recv(1, socket.MSG_PEEK):
                self.begun += 1
                try:
                    request = read_message(connection)
                except (OSError, EOFError):
                    self.broken += 1
                    raise
                self.seen.append(request)
                if isinstance(self.answer, bytes):
                    connection.sendall(self.answer)
                else:
                    self.answer(connection, request)


def read_message(connection: socket.socket) -> bytes:
    """Read one request, framed by Content-Length or chunked. Raises `EOFError` when the peer closed."""
    data = read_until(connection, b"\r\n\r\n")
    head = data.lower()
    if b"\r\ntransfer-encoding: chunked" in head:
        while not data.endswith(b"0\r\n\r\n"):
            data += _some(connection)
    elif b"\r\ncontent-length:" in head:
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        while len(data) < len(head) + length:
            data += _some(connection)
    return data


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read byte by byte up to and with `end`."""
    data = bytearray()
    while not data.endswith(end):
        data += _some(connection, 1)
    return bytes(data)


def read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def read_answer(connection: socket.socket, method: str = "GET") -> tuple[int, list[tuple[str, str]], bytes]:
    """Read one answer and nothing beyond it: status, headers in order, body."""
    answer = HTTPResponse(_Frugal(connection), method=method)  # type: ignore[arg-type]
    answer.begin()
    return answer.status, answer.getheaders(), answer.read()


class _Frugal:
    """A socket whose files read no byte ahead: the next answer may have come in the same packet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, mode: str) -> object:
        return self._connection.makefile(mode, buffering=1)


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def _some(connection: socket.socket, size: int = 65536) -> bytes:
    data = connection.recv(size)
    if not data:
        raise EOFError
    return data
