"""One answer, read from bytes as they come: where its head and its body end, and what of it we refuse.

No sockets here. Interim answers (1xx) are passed over, trailers read and dropped, headers of the hop taken
out. What does not say clearly where it ends is refused: taken for an answer, its rest could be passed off
as the answer to the next request (RFC 9112 11.2).
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from discovery.exchange import Header, Phase, Response
from gateway.streamed import EVENT_STREAM
from gateway.wire_head import HOP_BY_HOP, forwardable, mend

HEAD_LIMIT = 64 * 1024
"""Bytes of an answer's head, 1xx included: four times what servers commonly send at most."""

_NOTED = HOP_BY_HOP | {b"content-length", b"content-type"}
_TOO_LONG = f"the answer's head is larger than {HEAD_LIMIT} bytes", Phase.HEAD


class Answer:
    """The answer to one request; `head_only` for HEAD. Read the public attributes after each `feed()`."""

    status = 0
    reason = b""
    size = 0  # of the body so far
    headed = False  # the head of the final answer is complete
    complete = False
    events = False  # the body is an event stream
    keep = False  # the connection may be used again
    refused: tuple[str, Phase] | None = None
    _named = False  # Connection names further headers
    _framed = False  # the headers say where the body ends
    _ambiguous = False
    _raw = b""

    def __init__(self, head_only: bool) -> None:
        self.parts: list[bytes] = []  # of the body, as far as nobody took them
        self._headers: list[Header] = []
        self._head_only = head_only
        self._parser = HttpResponseParser(self)

    @property
    def begun(self) -> bool:
        return bool(self._raw)

    @property
    def headers(self) -> tuple[Header, ...]:
        """The headers that end at the caller."""
        headers = tuple(self._headers)
        return forwardable(headers) if self._named else headers

    def whole(self) -> Response:
        """Return the complete answer."""
        return Response(self.status, self.headers, b"".join(self.parts), self.reason)

    def feed(self, data: bytes) -> None:
        if not self.headed:
            self._raw = self._raw + data if self._raw else data
        if self._ambiguous:
            self._feed_mended()
        else:
            self._feed(data)
        if self.complete or self.refused is not None:
            del self._parser  # it refers to us
        elif not self.headed and len(self._raw) > HEAD_LIMIT:
            self.refused = _TOO_LONG

    def end(self) -> bool:
        """Take the end of the connection; return whether that is the end of the body too."""
        self.complete = self.complete or (self.headed and not self._framed)
        return self.complete

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # on_headers_complete() has refused it
        except HttpParserError as error:
            if self.complete:
                self.keep = False  # bytes behind the answer's end
            elif self.headed:
                self.refused = f"the answer's body is malformed: {error}", Phase.BODY
            elif "Content-Length" in str(error) and not self._ambiguous:
                self._ambiguous = True
                self._feed_mended()
            else:
                self.refused = f"the answer's head is malformed: {error}", Phase.HEAD

    def _feed_mended(self) -> None:
        """Read the answer anew with its repeated Content-Length said once, if that is all that ails it."""
        mended = mend(self._raw)
        if mended is None:
            self.refused = "the answer does not say clearly where it ends: lengths or codings disagree", Phase.HEAD
        elif mended:
            self._headers.clear()
            self.reason = b""
            self._parser = HttpResponseParser(self)
            self._feed(mended)
            self._ambiguous = False

    # What the parser tells

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Excess

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.headed:
            return  # a trailer
        lower = name.lower()
        if lower in _NOTED and not self._forwards(lower, value):
            return
        self._headers.append((name, value))

    def _forwards(self, lower: bytes, value: bytes) -> bool:
        """Note what a header means for the reading; return whether it is the caller's too."""
        if lower == b"content-length":
            self._framed = True
        elif lower == b"content-type":
            self.events = value[:17].lower() == EVENT_STREAM
        elif lower == b"transfer-encoding":
            coding = value.strip().lower()
            if coding == b"chunked":
                self._framed = True
            elif coding != b"identity":  # an old way to say nothing
                detail = f"the answer's transfer coding is {value.decode('latin-1')!r}: only chunked is understood"
                self.refused = detail, Phase.HEAD
        elif lower == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            self._named = True
            return True  # until the head is complete, for its names
        return lower not in HOP_BY_HOP

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                self.refused = "the upstream switched protocols (101), unasked", Phase.HEAD
            self._headers.clear()
            self.reason = b""
            self.events = self._framed = self._named = False
            return
        if len(self._raw) > HEAD_LIMIT and _size(self._headers) > HEAD_LIMIT:
            self.refused = _TOO_LONG
            return
        self.status = status
        self.headed = self.refused is None
        self.keep = self._parser.should_keep_alive()  # true only here, not after the message's end
        if self._head_only:
            self.complete = self.headed
        if self._head_only or status in (204, 304):
            self.events = False

    def on_body(self, data: bytes) -> None:
        if self.complete:
            self.keep = False  # a body in the answer to HEAD
        elif self.headed:
            self.parts.append(data)
            self.size += len(data)

    def on_message_complete(self) -> None:
        self.complete = self.headed


class _Excess(Exception):
    """A second answer began behind the first: stop the parser."""


def _size(headers: list[Header]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
