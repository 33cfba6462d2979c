"""The exceptions we raise, and the problem documents (RFC 9457) we answer with.

    GimbalError
    |- ConfigError          a setting is wrong; says which, where and what to do        (exit 2)
    |- EngineError          the embedded store cannot start; says why and what to do    (exit 3)
    |- LedgerUnavailable    the store is away or refused; nothing was changed that we know of
    |  |- Unconfirmed       it was changed, but not confirmed as `store.wait` demands; may be lost with the store
    |- Refused              we will not do that (egress, tokens, unsafe settings)       (exit 4)

An upstream's refusal is a value (`Response`, `Fault`), never an exception.
"""

from __future__ import annotations

import json
from typing import Any

from policies.reply import Problem

MEDIA = b"application/problem+json"
"""The media type of `document()`."""


class GimbalError(Exception):
    """The root of our own failures. Its text is one sentence for a person, naming the cure."""

    exit_code = 1


class ConfigError(GimbalError):
    exit_code = 2


class EngineError(GimbalError):
    exit_code = 3


class LedgerUnavailable(GimbalError):
    exit_code = 3


class Unconfirmed(LedgerUnavailable):
    """`result` is what the store answered."""

    def __init__(self, text: str, result: Any) -> None:
        super().__init__(text)
        self.result = result


class Refused(GimbalError):
    exit_code = 4


def document(problem: Problem, base: str = "") -> bytes:
    """Return a problem as its RFC 9457 document, whose `type` is the page that explains it.

    `base` (`http://127.0.0.1:8470`) makes the type absolute. No member overrides one of the document's own.
    """
    own = {
        "type": f"{base}/-/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    return json.dumps(
        {**own, **{name: value for name, value in problem.members.items() if name not in own}}
    ).encode()
