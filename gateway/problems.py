"""The exceptions we raise, and the problem documents (RFC 9457) we answer with.

    GimbalError
    |- ConfigError          a setting is wrong; says which, where and what to do        (exit 2)
    |- EngineError          the embedded store cannot start; says why and what to do    (exit 3)
    |- LedgerUnavailable    the store is away or refused; nothing was changed that we know of
    |- Refused              we will not do that (egress, tokens, unsafe settings)       (exit 4)

An upstream's refusal is a value (`Response`, `Fault`), never an exception.
"""

from __future__ import annotations


class GimbalError(Exception):
    """The root of our own failures. Its text is one sentence for a person, naming the cure."""

    exit_code = 1


class ConfigError(GimbalError):
    exit_code = 2


class EngineError(GimbalError):
    exit_code = 3


class LedgerUnavailable(GimbalError):
    exit_code = 3


class Refused(GimbalError):
    exit_code = 4
