"""Reading recorded traffic: exchange JSONL, HAR, VCR and Betamax cassettes -> exchanges, one after another.

The format is told by the content, gzip included. JSONL is streamed line by line; HAR and cassettes are one
document and are loaded whole. What cannot be read as an exchange is yielded as `Skipped`, in its place, with
the reason; only a file that cannot be opened, or is nothing of the above, is a `ConfigError`.

Bodies are often stored decoded while `Content-Encoding` still stands in the headers: `discovery.body`
goes by the bytes.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from urllib.parse import quote

import orjson

from discovery.exchange import Exchange, Fault, Headers, Json, Phase, Request, Response
from gateway.problems import ConfigError

MAX_DOCUMENT = 1024 * 1024 * 1024
"""Bytes of a HAR or cassette, unpacked: it is held in memory whole, at some five times its size."""

JsonObject: TypeAlias = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not read as an exchange: `where` in the file, and `why`."""

    where: str
    why: str


def read_recording(
    path: Path, advanced: Callable[[int], None] = lambda _: None, upstream: str = ""
) -> Iterator[Exchange | Skipped]:
    """Yield what `path` holds, in order. `advanced` is told the bytes of the file read so far.

    `upstream` names the upstream of every exchange; without it the recording's own name (`api`) or host does.
    Raises `ConfigError` when the file cannot be opened or is no recording.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    with raw:
        zipped = raw.peek(2)[:2] == b"\x1f\x8b"
        lines = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if zipped else raw)
        for found in _exchanges(path, lines):
            advanced(raw.tell())
            if upstream and isinstance(found, Exchange):
                yield Exchange(upstream, found.request, found.answer, found.at, found.base_url, found.source)
            else:
                yield found
        advanced(path.stat().st_size)


def _exchanges(path: Path, lines: IO[bytes]) -> Iterator[Exchange | Skipped]:
    try:
        first = b""
        skipped_lines = 0
        while not first.strip():
            first = lines.readline(MAX_DOCUMENT)
            skipped_lines += 1
            if not first:
                return
        if _is_exchange_line(first):
            yield from _jsonl(chain([first], lines), skipped_lines)
            return
        text = first + lines.read(MAX_DOCUMENT + 1)
    except (OSError, EOFError, zlib.error) as error:
        yield Skipped("the rest", f"the file breaks off: {error}")
        return
    if len(text) > MAX_DOCUMENT:
        raise ConfigError(
            f"{path} is larger than {MAX_DOCUMENT >> 20} MiB; split it, or convert it to exchange JSONL"
        )
    yield from _document(path, text)


def _is_exchange_line(line: bytes) -> bool:
    """A whole object on one line that is not a HAR or cassette; or something broken in a file of lines."""
    if line.lstrip()[:1] != b"{":
        return False
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return b'"url"' in line and line.rstrip()[-1:] == b"}"
    return isinstance(value, dict) and not {"log", "interactions", "http_interactions"} & value.keys()


def _jsonl(lines: Iterator[bytes], start: int) -> Iterator[Exchange | Skipped]:
    number = start - 1
    try:
        for number, line in enumerate(lines, start):
            if line.strip():
                yield _from_line(line, f"line {number}")
    except (OSError, EOFError, zlib.error) as error:
        yield Skipped(f"line {number + 1} on", f"the file breaks off: {error}")


def _from_line(line: bytes, where: str) -> Exchange | Skipped:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Skipped(where, f"not JSON: {error}")
    if not isinstance(entry, dict):
        return Skipped(where, "not a JSON object")
    return read_exchange(entry, where)


def read_exchange(entry: JsonObject, where: str = "exchange") -> Exchange | Skipped:
    """Return one exchange of exchange JSONL (interface, section 7)."""
    url, method, status = entry.get("url"), entry.get("method"), entry.get("status")
    if not isinstance(url, str) or not isinstance(method, str):
        return Skipped(where, "no `url` and `method`")
    at = entry.get("at")
    return _exchange(
        method,
        url,
        _headers(entry.get("request_headers")),
        _bytes(entry.get("request_body")),
        status if isinstance(status, int) else None,
        _headers(entry.get("response_headers")),
        _bytes(entry.get("response_body")),
        name=str(entry.get("api") or ""),
        at=float(at) if isinstance(at, (int, float)) else None,
        source=str(entry.get("source") or where),
    )


# HAR and cassettes


def _document(path: Path, text: bytes) -> Iterator[Exchange | Skipped]:
    value: Any
    try:
        value = orjson.loads(text.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        if text.lstrip()[:1] in (b"{", b"["):
            raise ConfigError(f"{path} is not a recording: {error}") from None
        value = _yaml(path, text)
    match value:
        case {"log": {"entries": list(entries)}}:
            reader = _har_entry
        case {"interactions": list(entries)} | {"http_interactions": list(entries)}:
            reader = _interaction
        case list(entries):
            reader = read_exchange
        case _:
            raise ConfigError(f"{path} is neither exchange JSONL nor a HAR nor a VCR cassette")
    for number, entry in enumerate(entries):
        where = f"entry {number}"
        if not isinstance(entry, dict):
            yield Skipped(where, "not an object")
            continue
        try:
            yield reader(entry, where)
        except (ValueError, TypeError, AttributeError, binascii.Error) as error:
            yield Skipped(where, f"unlike any recording: {error}")


def _har_entry(entry: JsonObject, where: str) -> Exchange | Skipped:
    request, response = entry.get("request"), entry.get("response")
    if not isinstance(request, dict) or not isinstance(response, dict):
        return Skipped(where, "no request and response")
    url, post = str(request.get("url")), request.get("postData")
    if not url.startswith(("http://", "https://")):
        return Skipped(where, f"not HTTP: {url[:60]}")
    if entry.get("_fromCache") or response.get("_fromCache"):
        return Skipped(where, "answered from the browser's cache")
    body = b""
    if isinstance(post, dict):
        body = _har_text(post) or _har_parameters(post.get("params"))
    content = response.get("content")
    at = entry.get("startedDateTime")
    return _exchange(
        str(request.get("method")),
        url,
        _headers(request.get("headers")),
        body,
        response.get("status"),
        _headers(response.get("headers")),
        _har_text(content) if isinstance(content, dict) else b"",
        at=datetime.fromisoformat(at).timestamp() if isinstance(at, str) else None,
        source=where,
    )


def _har_text(content: JsonObject) -> bytes:
    text = str(content.get("text") or "")
    return base64.b64decode(text) if content.get("encoding") == "base64" else _bytes(text)


def _har_parameters(parameters: Json) -> bytes:
    if not isinstance(parameters, list):
        return b""
    pairs = [(str(p.get("name", "")), str(p.get("value", ""))) for p in parameters if isinstance(p, dict)]
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs).encode()


def _interaction(entry: JsonObject, where: str) -> Exchange | Skipped:
    """VCR (Ruby), vcrpy and Betamax: they differ in the names of the address and in how a body is kept."""
    request, response = entry.get("request"), entry.get("response")
    if not isinstance(request, dict) or not isinstance(response, dict):
        return Skipped(where, "no request and response")
    status = response.get("status")
    code = status.get("code") if isinstance(status, dict) else status
    at = entry.get("recorded_at")
    return _exchange(
        str(request.get("method")).upper(),
        str(request.get("uri") or request.get("url")),
        _headers(request.get("headers")),
        _cassette_body(request.get("body")),
        int(code) if isinstance(code, (int, str)) else None,
        _headers(response.get("headers")),
        _cassette_body(response.get("body")),
        at=_when(at),
        source=where,
    )


def _cassette_body(body: object) -> bytes:
    if isinstance(body, dict):
        if isinstance(packed := body.get("base64_string"), (str, bytes)):
            return base64.b64decode(packed)
        return _bytes(body.get("string"))
    return _bytes(body)


def _when(text: object) -> float | None:
    for form in ("%Y-%m-%dT%H:%M:%S%z", "%a, %d %b %Y %H:%M:%S %Z"):
        try:
            return datetime.strptime(str(text), form).timestamp()
        except ValueError:
            continue
    return None


def _yaml(path: Path, text: bytes) -> object:
    """Load a cassette. Tags of other languages (`!!python/unicode`, `!ruby/object`) are read as plain values."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    def plain(loader: Any, _: str, node: Any) -> object:
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_mapping(node, deep=True)

    Loader.add_multi_constructor("!", plain)
    Loader.add_multi_constructor("tag:yaml.org,2002:python/", plain)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a recording: {str(error)[:200]}") from None


# What all have in common


def _exchange(
    method: str,
    url: str,
    request_headers: Headers,
    request_body: bytes,
    status: object,
    response_headers: Headers,
    response_body: bytes,
    *,
    name: str = "",
    at: float | None = None,
    source: str = "",
) -> Exchange | Skipped:
    base, host, target = split_url(url)
    request = Request(method.upper(), target, request_headers, request_body)
    answer: Response | Fault
    if isinstance(status, int) and 100 <= status <= 999:
        answer = Response(status, response_headers, response_body)
    else:
        answer = Fault(Phase.WAIT, f"the recording holds no answer (status {status})")
    return Exchange(name or host, request, answer, at, base, source)


_ADDRESS = re.compile(r"(?:(https?)://([^/?#]*))?([^?#]*)(\?[^#]*)?")
_HOST = re.compile(r"\[[^\]]*\]|[^:]+")


def split_url(url: str) -> tuple[str, str, bytes]:
    """Return (base URL, host, target in origin form), without user name, password and fragment."""
    found = _ADDRESS.match(url)
    scheme, place, path, query = found.groups() if found else (None, None, url, None)
    place = (place or "").rpartition("@")[2]
    target = quote(
        (path or "/") + (query or ""), safe="/?&=%#[]:;@!$'()*+,<>{}|~\"^`\\", errors="replace"
    ).encode()
    host = _HOST.match(place)
    return (
        f"{scheme}://{place}" if scheme else "",
        host[0] if host else place,
        target if target[:1] == b"/" else b"/" + target,
    )


def _headers(value: object) -> Headers:
    """Headers as an object of strings or lists of strings, or as HAR's list of names and values."""
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        for name, said in value.items():
            pairs += [(name, one) for one in said] if isinstance(said, list) else [(name, said)]
    elif isinstance(value, list):
        pairs = [(h.get("name"), h.get("value")) for h in value if isinstance(h, dict)]
    return tuple((_bytes(name), _bytes(said)) for name, said in pairs if not str(name).startswith(":"))


def _bytes(value: object) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return value.encode("utf-8", "surrogatepass")
        case None:
            return b""
        case int() | float():
            return str(value).encode()
        case _:
            return orjson.dumps(value)  # a body stored as the JSON it held
