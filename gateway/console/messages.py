"""What the console is asked and what it answers: plain values, whatever server carries them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from discovery.exchange import Header, Headers, Json, find
from gateway.problems import MEDIA, document
from policies.reply import Problem

PLAIN = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ConsoleRequest:
    """A request under `/-/`. `path` and `query` are as they were written; header names are lower case."""

    method: str
    path: bytes
    query: bytes = b""
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def header(self, name: bytes) -> bytes:
        return find(self.headers, name) or b""

    def said(self, name: str) -> str:
        """Return the first value of a query parameter, or nothing."""
        return _first(self.query, name)

    def form(self, name: str) -> str:
        """Return the first value of a field of a posted form, or nothing."""
        return _first(self.body, name) if self.is_form else ""

    @property
    def is_form(self) -> bool:
        return self.header(b"content-type").startswith(b"application/x-www-form-urlencoded")

    @property
    def wants_html(self) -> bool:
        return b"text/html" in self.header(b"accept")

    @property
    def wants_json(self) -> bool:
        return b"application/json" in self.header(b"accept") and not self.wants_html


@dataclass(frozen=True, slots=True)
class ConsoleAnswer:
    status: int
    headers: Headers
    body: bytes = field(default=b"", repr=False)

    def with_headers(self, *more: Header) -> ConsoleAnswer:
        return ConsoleAnswer(self.status, (*self.headers, *more), self.body)


class Stop(Exception):
    """Ends the handling of a request with a problem. It never leaves this package."""

    def __init__(self, problem: Problem, *headers: Header) -> None:
        super().__init__(problem.slug)
        self.problem = problem
        self.headers = headers


def answer(status: int, media: bytes, body: bytes, *more: Header) -> ConsoleAnswer:
    headers = ((b"content-type", media), (b"content-length", b"%d" % len(body)))
    return ConsoleAnswer(status, (*headers, *more), body)


def json_answer(facts: Json, status: int = 200, *more: Header) -> ConsoleAnswer:
    """Return facts as JSON, in plain ASCII: no lone surrogate of an upstream's can break it."""
    try:
        text = json.dumps(facts, allow_nan=False)
    except ValueError:  # a number of an upstream's too large for a float: told as a word, JSON has none for it
        text = json.dumps(json.loads(json.dumps(facts), parse_constant=str))
    return answer(status, b"application/json", text.encode() + b"\n", *more)


def problem_answer(problem: Problem, *more: Header) -> ConsoleAnswer:
    return answer(problem.status, MEDIA, document(problem), *more)


def redirect(location: str, *more: Header) -> ConsoleAnswer:
    """Return a redirect that turns a POST into a GET (RFC 9110 15.4.4)."""
    return ConsoleAnswer(303, ((b"location", location.encode()), (b"content-length", b"0"), *more))


def bad_request(detail: str, status: int = 400) -> Problem:
    return Problem("bad-request", status, "The request cannot be read", detail)


def not_found(detail: str) -> Problem:
    return Problem("not-found", 404, "There is nothing at that address", detail)


def _first(pairs: bytes, name: str) -> str:
    try:
        found = parse_qs(pairs.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=100).get(name)
    except ValueError as error:
        raise Stop(bad_request(f"The query or form cannot be read: {error}.")) from None
    return found[0] if found else ""
