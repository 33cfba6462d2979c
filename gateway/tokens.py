"""Tokens: the admin's, the callers', and a capability for one call. All are compared in constant time.

The admin token is made at first start and kept in the data directory, readable by its owner alone, where
the commands find it. A capability opens one call and nothing else; it is derived, so nothing is stored.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from gateway.problems import ConfigError, Refused
from gateway.secret_file import make

FILE = "admin-token"


def admin_token(data: Path) -> str:
    """Return the admin token kept in `data`, made now if there is none.

    Refuses a token that others can read: it may be known to them.
    """
    path = data / FILE
    try:
        if not path.exists():
            make(path, f"{secrets.token_urlsafe(32)}\n".encode())
        mode = path.stat().st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise Refused(f"{path}: others can read it; delete it and a new one is made at the next start")
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not a token"
        raise ConfigError(f"{path}: {reason.lower()}; make it yours to write, or choose another --data") from None
    if len(token) < 32:
        raise Refused(f"{path}: is too short to be a token; delete it and a new one is made at the next start")
    return token


def signing_key(data: Path, key: str | None) -> bytes:
    """Return the key capabilities are made with: from `key` (shared by replicas), else from the admin token."""
    return signing_keys(data, key)[0]


def signing_keys(data: Path, key: str | None) -> tuple[bytes, ...]:
    """Return the key capabilities are made with, and those before it, whose capabilities open still: `key` may be
    several with commas, the newest first, as it is rotated."""
    secrets = [text.strip() for text in key.split(",")] if key else [admin_token(data)]
    return tuple(hmac.digest(secret.encode(), b"gimbal capability", "sha256") for secret in secrets)


def capability(signing: bytes, call: str) -> str:
    """Return the token that opens `call` alone: 128 bits, safe in a URL."""
    return urlsafe_b64encode(hmac.digest(signing, call.encode(), "sha256")[:16]).rstrip(b"=").decode()


def opens(signing: bytes, call: str, token: str) -> bool:
    """Is `token` the capability of `call`?"""
    return same(capability(signing, call), token)


def bearer(header: bytes | None) -> str | None:
    """Return the token of an `Authorization: Bearer …` value, or None."""
    scheme, _, token = (header or b"").decode("latin-1").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def caller_of(token: str | None, callers: Mapping[str, str]) -> str | None:
    """Return the name of the caller `token` belongs to, or None. Every token is compared, found or not."""
    names = [name for name, known in callers.items() if same(known, token or "")]
    return names[0] if names else None


def same(known: str, told: str) -> bool:
    return hmac.compare_digest(known.encode(), told.encode("utf-8", "surrogateescape"))
