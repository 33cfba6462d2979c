"""What is stored of bodies and headers is sealed: AES-256-GCM, bound to the place it is stored in.

A sealed value is: four bytes naming its key, twelve of nonce, then ciphertext and tag. Several keys may open,
the first seals, so keys are rotated by putting a new one in front and dropping the last when its records expired.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.problems import ConfigError, LedgerUnavailable
from gateway.secret_file import make

KEY_BYTES = 32
NAME_BYTES = 4
NONCE_BYTES = 12


class Vault:
    """Seals with the first of `keys` (32 bytes each), opens with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ConfigError(f"a key of the store has {KEY_BYTES} bytes: check GIMBAL_KEY")
        self._ciphers = {_name(key): AESGCM(key) for key in keys}
        self._newest = _name(keys[0])

    def seal(self, plain: bytes, place: str) -> bytes:
        """Return `plain` sealed for `place` (a call's id and field): it opens nowhere else."""
        nonce = _nonce()
        return self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Return what was sealed for `place`; `LedgerUnavailable` where the key is not ours or it changed."""
        cipher = self._ciphers.get(sealed[:NAME_BYTES])
        if cipher is None:
            raise LedgerUnavailable(f"{place} was sealed with another key: give the older key too")
        nonce, body = sealed[NAME_BYTES : NAME_BYTES + NONCE_BYTES], sealed[NAME_BYTES + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, place.encode())
        except (InvalidTag, ValueError) as error:
            raise LedgerUnavailable(f"{place} was changed in the store: it does not open") from error


NONCES = 256
"""Random nonces drawn from the system at once: a system call for each seal is 3 % of a call's CPU."""

_drawn: list[bytes] = []
os.register_at_fork(after_in_child=_drawn.clear)  # a nonce is never used twice


def _nonce() -> bytes:
    while True:
        try:
            return _drawn.pop()
        except IndexError:
            drawn = os.urandom(NONCES * NONCE_BYTES)
            _drawn.extend(drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES))


def load_or_make_key(path: Path) -> bytes:
    """Return the key kept at `path`, made there (0600, whole or not at all) where there is none.

    Of several processes that start at once, all return the same key.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        make(path, os.urandom(KEY_BYTES))
        key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path} is not a key of {KEY_BYTES} bytes: restore it; without it records stay sealed")
    return key


def _name(key: bytes) -> bytes:
    return blake2b(key, digest_size=NAME_BYTES, person=b"gimbal key").digest()
