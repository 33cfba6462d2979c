"""An upstream that speaks HTTP/2 over TLS on 127.0.0.1 and nothing else, for tests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, WindowUpdated

Headers = list[tuple[bytes, bytes]]


@dataclass
class Stream:
    """One request, as it came, and what is still to be sent of its answer."""

    id: int
    headers: Headers
    body: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""


class H2Upstream:
    """`answer` is called with the connection's h2 state and each whole request; None: nothing is answered."""

    def __init__(self, tls: ssl.SSLContext, answer: Callable[[H2Session, Stream], None]) -> None:
        tls.set_alpn_protocols(["h2"])
        self._tls = tls
        self.answer = answer
        self.sessions: list[H2Session] = []

    async def __aenter__(self) -> H2Upstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", 0, ssl=self._tls)
        self.url = f"https://localhost:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self.sessions:
            session.transport.abort()

    def _session(self) -> H2Session:
        self.sessions.append(H2Session(self.answer))
        return self.sessions[-1]


class H2Session(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, answer: Callable[[H2Session, Stream], None]) -> None:
        self._answer = answer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.streams: dict[int, Stream] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case RequestReceived():
                    self.streams[event.stream_id] = Stream(event.stream_id, list(event.headers))
                case DataReceived():
                    self.streams[event.stream_id].body += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamEnded():
                    self._answer(self, self.streams[event.stream_id])
                case WindowUpdated():
                    for stream in self.streams.values():
                        self.go_on(stream)
        self.flush()

    def reply(self, stream: Stream, status: int, headers: Headers, body: bytes = b"") -> None:
        self.h2.send_headers(stream.id, [(b":status", b"%d" % status), *headers], end_stream=not body)
        stream.unsent = body
        self.go_on(stream)

    def go_on(self, stream: Stream) -> None:
        """Send as much of the answer as the caller's window takes."""
        while stream.unsent:
            room = min(self.h2.local_flow_control_window(stream.id), self.h2.max_outbound_frame_size)
            if room <= 0:
                return
            part, stream.unsent = stream.unsent[:room], stream.unsent[room:]
            self.h2.send_data(stream.id, part, end_stream=not stream.unsent)

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())
