"""What the head of an answer says, whichever door it leaves by: the upstream's headers, the gateway's own, and
those of problems."""

from __future__ import annotations

import math

from discovery.exchange import Headers, Response
from gateway.gate import Identified, Passed
from gateway.problems import MEDIA
from gateway.wire_head import forwardable
from policies.reply import Problem, Reply

PROXY_ERRORS = {
    "unknown-upstream": "destination_not_found",
    "refused-target": "destination_ip_prohibited",
    "upstream-unreachable": "destination_unavailable",
    "in-doubt": "http_response_incomplete",
    "exhausted": "http_response_incomplete",
    "too-large": "http_request_error",
    "bad-request": "http_request_error",
    "key-required": "http_request_error",
    "key-reused": "http_request_denied",
    "unauthorized": "http_request_denied",
    "foreign-page": "http_request_denied",
}
"""Problem -> proxy error type (RFC 9209 2.3); what has none is the gateway's own answer."""

_OF_STATUS: dict[int, Headers] = {
    202: ((b"preference-applied", b"respond-async"),),  # RFC 7240 3
    407: ((b"proxy-authenticate", b'Bearer realm="gimbal"'),),  # RFC 9110 15.5.8
}


def outcome_headers(passed: Passed, token: str) -> Headers:
    """Return the headers in which the gateway says what became of the call; `token` opens its page."""
    reply = passed.reply
    said = [(b"gimbal-call", passed.call.encode()), (b"gimbal-outcome", outcome_item(reply).encode())]
    if reply.replayed:
        said.append((b"idempotent-replayed", b"true"))
    if reply.retry_after is not None:
        said.append((b"retry-after", b"%d" % max(1, math.ceil(reply.retry_after))))
    if reply.location and token:
        said.append((b"location", f"/-/calls/{passed.call}?token={token}".encode()))
    return tuple(said)


def outcome_item(reply: Reply) -> str:
    """Return `Gimbal-Outcome`: an RFC 9651 Item, the call's fate with parameters."""
    item = f"{reply.outcome.value};attempts={reply.attempts}"
    if reply.replayed:
        item += ";replayed"
    if reply.adapted:
        item += f";adapted={reply.adapted}"
    if reply.degraded:
        item += f";degraded={reply.degraded}"
    if reply.contract is not None:
        item += f";contract={reply.contract}"
    if reply.unconfirmed:
        item += ";unconfirmed"
    return item


def answer_headers(answer: Response | Problem) -> Headers:
    if isinstance(answer, Problem):
        return problem_headers(answer)
    headers = forwardable(answer.headers)
    if answer.status in (204, 304):  # no body follows, whatever a 304's Content-Length describes
        return tuple(header for header in headers if header[0].lower() != b"content-length")
    return headers


def problem_headers(problem: Problem) -> Headers:
    error = PROXY_ERRORS.get(problem.slug, "proxy_internal_response")
    return (
        *_OF_STATUS.get(problem.status, ()),
        (b"content-type", MEDIA),
        (b"cache-control", b"no-store"),
        (b"proxy-status", f"gimbal; error={error}".encode()),
    )


def too_large(who: Identified) -> Problem:
    return Problem(
        "too-large",
        413,
        "Too large to remember",
        f"A step's body is kept until it is settled; this one is beyond {who.known.rules.body_limit} bytes "
        "(limits.body, or body_limit of the upstream). Nothing was sent. "
        "Raise the limit, or send it without identity.",
        {"limit": who.known.rules.body_limit},
    )
