"""Stands before a real server and holds a request at the edge where killing hurts."""

from __future__ import annotations

import socket
import threading
from typing import Literal
from urllib.parse import urlsplit

from tests.gateway.raw import RawUpstream, read_message

Edge = Literal["request", "answer"]


class Shim(RawUpstream):
    """Passes requests on to `server`, one connection each. What is held at `request` never reaches it.

    What is held at `answer` has reached it, and its answer stays here: `kept`.
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        parts = urlsplit(server)
        self._server = parts.hostname, parts.port
        self._hold: Edge | None = None
        self.held = threading.Event()
        self.kept = b""
        self.answer = self._pass

    def hold(self, edge: Edge) -> None:
        """Hold the next request at `edge`."""
        self.held.clear()
        self._hold = edge

    def _pass(self, connection: socket.socket, request: bytes) -> None:
        edge, self._hold = self._hold, None
        if edge == "request":
            self.held.set()
            raise EOFError(connection.recv(1))  # returns when the gateway is gone
        with socket.create_connection(self._server) as server:
            server.sendall(request)
            answer = read_message(server)
        if edge == "answer":
            self.kept = answer
            self.held.set()
            raise EOFError(connection.recv(1))
        connection.sendall(answer)
