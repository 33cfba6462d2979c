"""A whole answer in one write, where uvicorn makes two: of the head, then of the body.

The second write costs a system call and wakes the caller a second time: uvicorn's `send` was 10 % of a call's
samples (docs/performance.md). What is out of the ordinary is left to uvicorn.
"""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from discovery.exchange import Headers

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LEFT_TO_UVICORN = frozenset({b"connection", b"transfer-encoding"})


def answer_at_once(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> bool:
    """Write the answer and end the exchange; False: nothing was done.

    Done when the answer's only framing is a Content-Length that fits, and the connection goes on after it.
    """
    if (
        cycle.disconnected
        or not cycle.keep_alive
        or cycle.flow.write_paused
        or cycle.default_headers
        or cycle.scope["method"] == "HEAD"
        or status in (204, 304)
    ):
        return False
    length = -1
    lines = [STATUS_LINE[status]]
    for name, value in headers:
        lower = name.lower()
        if lower in _LEFT_TO_UVICORN:
            return False
        if lower == b"content-length":
            if length != -1 or not value.isdigit():
                return False
            length = int(value)
        lines.append(b"%b: %b\r\n" % (lower, value))
    head = b"".join(lines)
    if length != len(body) or head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
        return False
    if _CONTROL.search(head):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"%b\r\n%b" % (head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True
