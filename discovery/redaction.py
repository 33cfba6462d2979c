# ruff: noqa: SIM905 (a list of words reads best as words)
"""What is a secret, and what stands in its place wherever people or stores see what crossed the wire.

A secret is known by the name it stands under or by its own form. Names are cut into words, so `X-Api-Key`,
`apiKey` and `api_key` are one name, and `page_token` or `max_tokens` are none. Under a secret name
every text is hidden, numbers too; elsewhere only what has the form of a secret (a private key, a signed token,
a password inside a URL, a payment card's number). When in doubt it hides: showing a harmless value less costs
little. What is hidden shows as `HIDDEN`; a header's scheme (`Bearer`, `Basic`) and a cookie's name stay,
because they say what kind of secret it was.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from urllib.parse import quote, unquote_plus

from discovery.body import TREES, Kind, read_body
from discovery.exchange import Headers, Json
from discovery.lexical import words_of

HIDDEN = "[redacted]"

_SECRET_WORDS = frozenset(
    "authorization password passwd passphrase passcode pwd secret secrets credential credentials cookie cookies "
    "apikey apitoken accesskey secretkey privatekey authtoken accesstoken refreshtoken sessionid sessid phpsessid "
    "jwt otp totp cvv cvc csc pin ssn iban signature sig hmac bearer csrf xsrf csrftoken nonce mnemonic".split()
)
"""One of these among a name's words makes it a secret's name."""

_SECRET_PAIRS = frozenset(
    "api key|access key|secret key|private key|signing key|encryption key|master key|account key|auth key|"
    "app key|application key|subscription key|shared key|session id|session key|auth code|authorization code|"
    "recovery code|backup code|verification code|security code|card number|account number|routing number|"
    "client assertion|code verifier|set cookie".split("|")
)
"""Two words in a row that make a name a secret's."""

_OPEN_TOKENS = frozenset(
    "page next prev previous continuation continue sync start cursor max min total count counts type limit used "
    "prompt completion input output cached usage id ids expires expiry expiration per ttl length".split()
)
"""Words beside `token` that tell of paging, counting or describing tokens: no secret."""

_OPEN_WORDS = frozenset("type expires expiry expiration policy required enabled age length hint count".split())
"""A name ending in one of these tells of a secret (`password_policy`), and holds none."""

_SECRET_FORMS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JSON Web Token (RFC 7519)
    r"|\b(?:Bearer|Basic|Digest|Token|ApiKey)\s+[\w.~+/=-]{12,}"
    r"|\b[a-z]{2,6}_(?:live|test|prod|sandbox)_[A-Za-z0-9_]{12,}"  # prefixed keys, as many vendors print them
    r"|\b(?:gh[a-z]|github_pat|glpat|xox[a-z]|xapp|shpat|dop_v\d|npm|pypi)[_-][\w-]{20,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}"
    r"|\bSG\.[\w-]{16,}\.[\w-]{16,}"
    r"|\bwhsec_\w{16,}"
)
_URL_PASSWORD = re.compile(r"(\b[a-zA-Z][\w+.-]{0,20}://[^\s/:@]{0,200}:)[^\s/@]{1,200}(@)")
_URL_PAIR = re.compile(r"([?&;])([\w.\[\]%-]{1,80})=([^&#\s\"'<>]+)")
_CARD = re.compile(r"\b(?:\d[ -]?){12,18}\d\b")
_XML_LEAF = re.compile(r"(<(?:[\w.-]{1,40}:)?([\w.-]{1,80})(?:\s[^<>]{0,500})?>)([^<]+)(?=</)")
_XML_ATTRIBUTE = re.compile(r"([\w:.-]{1,80})(\s*=\s*)(\"[^\"]*\"|'[^']*')")
_SCHEME = re.compile(rb"\s*([A-Za-z][\w-]{1,30})\s+\S")

_DEPTH = 200
"""Levels of JSON that are read; what lies deeper is hidden."""


@lru_cache(maxsize=8192)
def is_secret_name(name: str) -> bool:
    """Tell whether what stands under `name` (a header, query parameter, JSON key, form field) is a secret."""
    words = words_of(name)
    if not words or (len(words) > 1 and words[-1] in _OPEN_WORDS):
        return False
    if not _SECRET_WORDS.isdisjoint(words) or "".join(words) in _SECRET_WORDS:
        return True
    if any(f"{one} {two}" in _SECRET_PAIRS for one, two in pairwise(words)):
        return True
    return ("token" in words or "tokens" in words) and _OPEN_TOKENS.isdisjoint(words)


def is_secret_value(text: str) -> bool:
    """Tell whether `text` has the form of a secret, or holds one."""
    return redact_text(text) != text


def redact_text(text: str) -> str:
    """Return `text` with what has the form of a secret hidden."""
    if len(text) < 9:
        return text
    text = _SECRET_FORMS.sub(HIDDEN, text)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{HIDDEN}\2", text)
    if "=" in text:
        text = _URL_PAIR.sub(_hide_pair, text)
    if len(text) >= 13 and any(map(str.isdigit, text)):
        text = _CARD.sub(_hide_card, text)
    return text


def redact_headers(headers: Headers) -> Headers:
    """Return `headers` with secrets hidden; schemes and cookies' names stay."""
    return tuple((name, _header(name.decode("latin-1"), value)) for name, value in headers)


def redact_json(value: Json) -> Json:
    """Return a copy of `value` with secrets hidden, at any depth."""
    return _tree(value, False, _DEPTH)


def redact_query(target: bytes) -> bytes:
    """Return a request target (path and query) with secret parameters and secret-looking segments hidden."""
    path, mark, query = target.partition(b"?")
    shown = "/".join(redact_text(segment) for segment in path.decode("latin-1").split("/"))
    pairs = [_query_pair(pair) for pair in query.decode("latin-1").split("&")]
    return shown.encode("latin-1") + mark + "&".join(pairs).encode("latin-1")


def redact_body(headers: Headers, body: bytes) -> Json:
    """Return what a person may see of `body`: its tree where it has one, else its text. Secrets are hidden.

    XML stays text, so that it reads as it was sent; of binary bodies only the size is told.
    """
    read = read_body(headers, body)
    match read.kind:
        case Kind.XML:
            return _xml(body.decode("utf-8", "replace"))
        case kind if kind in TREES:
            return redact_json(read.value)
        case Kind.EMPTY:
            return ""
        case Kind.BINARY:
            return f"<{len(body)} bytes>"
        case _ if isinstance(read.value, str):
            return redact_text(read.value)
        case _:
            return f"<{len(body)} bytes: {read.note}>"


def _header(name: str, value: bytes) -> bytes:
    lower = name.lower()
    if lower in ("cookie", "set-cookie"):
        crumbs = value.split(b";") if lower == "cookie" else [value.partition(b";")[0]]
        return b"; ".join(crumb.partition(b"=")[0].strip() + b"=" + HIDDEN.encode() for crumb in crumbs)
    if is_secret_name(name):
        scheme = _SCHEME.match(value) if "authorization" in lower else None
        return (scheme[1] + b" " if scheme else b"") + HIDDEN.encode()
    return redact_text(value.decode("latin-1")).encode("latin-1")


def _tree(value: Json, secret: bool, depth: int) -> Json:
    if depth == 0:
        return HIDDEN
    match value:
        case dict():
            named = value.get("name") if secret is False and "value" in value else None
            told = isinstance(named, str) and is_secret_name(named)  # {"name": "password", "value": ".."}
            return {
                redact_text(key): _tree(
                    inner, secret or is_secret_name(key) or (told and key == "value"), depth - 1
                )
                for key, inner in value.items()
            }
        case list():
            return [_tree(inner, secret, depth - 1) for inner in value]
        case str():
            return HIDDEN if secret and value else redact_text(value)
        case bool() | None:
            return value
        case _:
            return HIDDEN if secret else value


def _query_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not value:
        return pair
    plain = unquote_plus(value)
    if is_secret_name(unquote_plus(name)):
        return name + equals + HIDDEN
    shown = redact_text(plain)
    return pair if shown == plain else name + equals + quote(shown, safe="[]/:")


def _hide_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={HIDDEN}" if is_secret_name(unquote_plus(found[2])) else found[0]


def _hide_card(found: re.Match[str]) -> str:
    """Hide what passes the check digit of payment cards (ISO/IEC 7812-1, Luhn)."""
    digits = [int(character) for character in found[0] if character.isdigit()]
    if digits[0] not in (3, 4, 5, 6):
        return found[0]
    doubled = [digit if at % 2 == 0 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(reversed(digits))]
    return HIDDEN if sum(doubled) % 10 == 0 else found[0]


def _xml(text: str) -> str:
    text = _XML_LEAF.sub(lambda m: m[1] + HIDDEN if is_secret_name(m[2]) else m[0], text)
    text = _XML_ATTRIBUTE.sub(lambda m: f'{m[1]}{m[2]}"{HIDDEN}"' if is_secret_name(m[1]) else m[0], text)
    return redact_text(text)
