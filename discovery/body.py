"""Reading a body: bytes with their headers -> one plain tree, whatever the body is called and whatever it is.

`read_body()` never raises and is bounded in time and memory: what is too large, too deep, a bomb or broken
off is `UNREADABLE`, and `note` says why. What a body *is* outweighs what it is *called*: JSON sent as text is
JSON, an HTML page sent as JSON is HTML. Of duplicated keys the last one counts, as in most parsers.

Trees look alike whatever they came from. XML: `{"root": {"child": "text", "@attribute": "..", "#text": ".."}}`,
namespaces stripped, repeated children a list. Forms: `{"name": "value" | ["value", ..]}`, names as written
(`items[0][price]`). `multipart/form-data` likewise, a file as `{"filename": .., "size": ..}`; other multiparts
a list of `{"headers": {..}, "body": ".."}`. NDJSON and SSE: lists of values.
"""

from __future__ import annotations

import json
import re
import zlib
from enum import StrEnum
from typing import cast
from urllib.parse import parse_qsl

import orjson
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError

from discovery.constant import constant
from discovery.exchange import Headers, Json
from discovery.markup import MAX_DEPTH, TooMuch, plain_text, xml_tree

LIMIT = 8 * 1024 * 1024
"""Bytes of a body that is read as a tree: an answer to a write is far smaller; 8 MiB of keys take 0.3 s."""

SLOW_LIMIT = 1024 * 1024
"""Bytes given to the careful, slow JSON reader, when the fast one refused."""

MAX_PARTS = 2_000
"""Fields of a form, parts of a multipart, lines of an NDJSON or SSE body are read up to here."""


class Kind(StrEnum):
    """What a body is."""

    JSON = "json"
    LINES = "ndjson"
    FORM = "form"
    MULTIPART = "multipart"
    XML = "xml"
    HTML = "html"
    TEXT = "text"
    SSE = "sse"
    BINARY = "binary"
    EMPTY = "empty"
    UNREADABLE = "unreadable"


TREES = frozenset({Kind.JSON, Kind.LINES, Kind.FORM, Kind.MULTIPART, Kind.XML, Kind.SSE})
"""Kinds whose `value` has structure; of the others it is the text, or None."""


@constant
class Body:
    """What a body holds. `hostile`: unreadable because it is too large, too deep or a bomb, not merely broken."""

    kind: Kind
    value: Json = None
    note: str = ""
    hostile: bool = False


NOTHING = Body(Kind.EMPTY)
_TOO_DEEP = Body(Kind.UNREADABLE, note="nested too deep", hostile=True)

_HTML = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|h1|center|pre|p|br)\b", re.I | re.S
)
_PAIR = re.compile(r"[\w.~%+\-\[\]$:@*]{1,200}=[^&\s<>]*")
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.I)
_XSSI = re.compile(rb"\s*(?:\)\]\}',?|while\s*\(1\);|for\s*\(;;\);)\s*")
_JSONP = re.compile(rb"\s*[\w.$]{1,80}\s*\(\s*([\[{].*[\]}])\s*\)\s*;?\s*\Z", re.S)
_BOUNDARY = re.compile(rb"boundary\s*=\s*(?:\"([^\"]{1,200})\"|([^\s;]{1,200}))", re.I)
_DISPOSITION = re.compile(r"(\w+\*?)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;]+))")
_TEXTUAL = re.compile(rb"text/|xml|javascript|yaml|csv")


def read_body(headers: Headers, body: bytes, limit: int = LIMIT) -> Body:
    """Return what `body` holds. `limit` bounds the bytes read as a tree, before and after decompression."""
    if not body:
        return NOTHING
    declared = encoding = b""
    for name, said in headers:
        length = len(name)
        if length == 12 and name.lower() == b"content-type":
            declared = said.lower()
        elif length == 16 and name.lower() == b"content-encoding":
            encoding = said.lower().strip()
    if encoding or body[:2] == b"\x1f\x8b":
        opened = _decompressed(body, encoding, declared, limit)
        if isinstance(opened, Body):
            return opened
        body = opened
    if body[0] in b"{[" and len(body) <= limit and not declared.startswith(b"text/event-stream"):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _read(body, declared, limit)
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _too_deep(value, body):
            return _TOO_DEEP
        return Body(Kind.JSON, value)
    return _read(body, declared, limit)


def read_json(text: bytes) -> Json:
    """Return the JSON in `text`, forgiving NaN, lone surrogates, a BOM, and script prefixes. Raises ValueError."""
    try:
        return cast(Json, orjson.loads(text))
    except orjson.JSONDecodeError:
        return _patient_json(text)


def content_type(headers: Headers) -> bytes:
    """Return the media type, lower case, without its parameters."""
    for name, said in headers:
        if name.lower() == b"content-type":
            return said.lower().partition(b";")[0].strip()
    return b""


def _read(body: bytes, declared: bytes, limit: int) -> Body:
    """Try what the first bytes show, then what the header says, then what the text looks like."""
    media = declared.partition(b";")[0].strip()
    start = body[:200].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")
    if not start and not body.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        return NOTHING
    tree = b"json" in media or b"xml" in media or media.startswith(b"multipart/") or start[:1] in b"{[<"
    if tree and len(body) > limit and media != b"text/html":
        return Body(
            Kind.UNREADABLE, note=f"{len(body)} bytes are more than the {limit} that are read", hostile=True
        )
    if media == b"text/event-stream":
        return Body(Kind.SSE, _events(_text(body[:limit], declared)))
    if media.startswith(b"multipart/"):
        return _multipart(body, declared)
    broken = ""
    if (
        b"json" in media
        or start[:1] in b"{["
        or _XSSI.match(body)
        or (b"javascript" in media and _JSONP.match(body))
        or (start[:1] in b'"-0123456789tfnN' and not media)
    ):
        try:
            return _json(body, declared)
        except RecursionError:
            return _TOO_DEEP
        except ValueError as error:
            broken = f"called JSON, but is not: {error}" if b"json" in media else ""
    if start[:1] == b"<":
        return _markup(body, media, broken)
    text = _text(body[:limit], declared)
    if media == b"application/x-www-form-urlencoded" or _looks_like_a_form(text):
        return Body(Kind.FORM, form_tree(text), broken)
    if _is_binary(body, media):
        return Body(Kind.UNREADABLE if broken else Kind.BINARY, None, broken)
    if broken and start[:1] in b"{[":
        return Body(Kind.UNREADABLE, text, broken)
    return Body(Kind.TEXT, text, broken)


# Compression and characters


def _decompressed(body: bytes, encoding: bytes, declared: bytes, limit: int) -> bytes | Body:
    """Bodies in recordings are often stored decoded with the header left on: the bytes decide."""
    if encoding in (b"", b"identity") and declared.startswith(
        (b"application/gzip", b"application/x-gzip", b"application/octet-stream", b"application/x-tar")
    ):
        return body
    zipped = body[:2] == b"\x1f\x8b"
    if not zipped and b"deflate" not in encoding:
        foreign = encoding in (b"br", b"zstd", b"compress") and not body[:1].isspace() and body[:1] not in b'{[<"'
        return Body(Kind.UNREADABLE, note=f"compressed with {encoding.decode('latin-1')}") if foreign else body
    for window in (47,) if zipped else (15, -15):
        inflater = zlib.decompressobj(window)
        try:
            plain = inflater.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(plain) > limit:
            return Body(Kind.UNREADABLE, note=f"unpacks to more than {limit} bytes", hostile=True)
        if not inflater.eof:
            return Body(Kind.UNREADABLE, note="its compressed stream breaks off")
        return plain
    return Body(Kind.UNREADABLE, note="its compressed stream is damaged") if zipped else body


def _text(body: bytes, declared: bytes) -> str:
    """Decode by BOM, by the declared charset, as UTF-8, as Windows-1252: the first that fits."""
    if body[:3] == b"\xef\xbb\xbf":
        return body[3:].decode("utf-8", "replace")
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    said = _CHARSET.search(declared)
    for charset in (said[1].decode("ascii"), "utf-8") if said else ("utf-8",):
        try:
            return body.decode(charset)
        except (LookupError, UnicodeError, ValueError):
            continue
    return body.decode("cp1252", "replace")


def _is_binary(body: bytes, media: bytes) -> bool:
    if _TEXTUAL.search(media):
        return False
    head = body[:1000]
    return b"\0" in head or sum(byte < 9 or 13 < byte < 32 for byte in head) * 20 > len(head)


# JSON


def _json(body: bytes, declared: bytes) -> Body:
    if len(body) > SLOW_LIMIT:
        raise ValueError("too large for a second reading")
    text = _text(body, declared).encode("utf-8", "surrogatepass")
    try:
        value = read_json(text)
        return _TOO_DEEP if _too_deep(value) else Body(Kind.JSON, value)
    except ValueError as error:
        first, _, rest = text.strip().partition(b"\n")
        if not rest or first.strip()[-1:] not in b"}]":
            raise
        try:
            return Body(Kind.LINES, [read_json(line) for line in text.split(b"\n")[:MAX_PARTS] if line.strip()])
        except ValueError:
            raise error from None


def _patient_json(text: bytes) -> Json:
    if len(text) > SLOW_LIMIT:
        raise ValueError("too large for a second reading")
    if prefix := _XSSI.match(text):
        text = text[prefix.end() :]
    elif call := _JSONP.match(text):
        text = call[1]
    return cast(Json, json.loads(text.lstrip(b"\xef\xbb\xbf"), parse_constant=lambda _: None, parse_int=_integer))


_NO_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _too_deep(value: Json, text: bytes = b"") -> bool:
    """Tell by peeling brackets, layer by layer; by walking, where brackets in strings spoil that."""
    brackets = text.translate(None, _NO_BRACKET)
    for _ in range(MAX_DEPTH if brackets else 0):
        peeled = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not peeled:
            return False
        if peeled == brackets:
            break
        brackets = peeled
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [
            child
            for node in layer
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
            if isinstance(child, (dict, list))
        ]
        if not layer:
            return False
    return True


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) < 400 else None  # quadratic to read, and no number of anything


# XML and HTML


def _markup(body: bytes, media: bytes, broken: str) -> Body:
    if media == b"text/html" or _HTML.match(body[:2000]):
        return Body(Kind.HTML, _text(body, media), broken)
    try:
        return Body(Kind.XML, xml_tree(body), broken)
    except DefusedXmlException as error:
        note = f"declares entities ({type(error).__name__})"
        return Body(Kind.UNREADABLE, plain_text(_text(body[:20_000], media)), note, hostile=True)
    except TooMuch as error:
        return Body(Kind.UNREADABLE, note=str(error), hostile=True)
    except (ParseError, ValueError, LookupError) as error:
        text = _text(body, media)
        if b"xml" in media or body.lstrip()[:5] == b"<?xml":
            return Body(Kind.UNREADABLE, text, f"called XML, but is not: {error}")
        return Body(Kind.HTML, text, broken)


# Forms, multiparts, events


def form_tree(text: str) -> dict[str, Json]:
    """Return the fields of a form or query: names as written, repeated ones as lists."""
    fields: dict[str, Json] = {}
    for name, held in parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=None)[:MAX_PARTS]:
        before = fields.get(name)
        if name not in fields:
            fields[name] = held
        elif isinstance(before, list):
            before.append(held)
        else:
            fields[name] = [before, held]
    return fields


def _looks_like_a_form(text: str) -> bool:
    pairs = text.strip().split("&", 50) if len(text) < 100_000 else []
    return bool(pairs) and all(_PAIR.fullmatch(pair) for pair in pairs[:50])


def _multipart(body: bytes, declared: bytes) -> Body:
    found = _BOUNDARY.search(declared) or re.match(rb"\s*--()([^\s]{1,200})\r?\n", body)
    if found is None:
        return Body(Kind.UNREADABLE, note="a multipart without its boundary")
    boundary = found[1] or found[2]
    at = body.lower().find(b"--" + boundary)  # `declared` was lowered
    if at < 0:
        return Body(Kind.UNREADABLE, note="a multipart without its boundary")
    pieces = body[at:].split(body[at : at + 2 + len(boundary)], MAX_PARTS)[1:]
    parts = [_part(piece) for piece in pieces if not piece.startswith(b"--") and piece.strip()]
    if not declared.startswith(b"multipart/form-data"):
        return Body(Kind.MULTIPART, [{"headers": headers, "body": _text(data, b"")} for headers, data in parts])
    fields: dict[str, Json] = {}
    for headers, data in parts:
        said = {
            m[1]: m[2] or m[3] or "" for m in _DISPOSITION.finditer(str(headers.get("content-disposition", "")))
        }
        value: Json = _text(data, b"")
        if "filename" in said:
            value = {"filename": said["filename"], "size": len(data)}
        fields[said.get("name", "")] = value
    return Body(Kind.MULTIPART, fields)


def _part(piece: bytes) -> tuple[dict[str, Json], bytes]:
    piece = piece.removeprefix(b"\r\n").removeprefix(b"\n")
    head, _, data = piece.partition(b"\r\n\r\n" if b"\r\n\r\n" in piece else b"\n\n")
    headers: dict[str, Json] = {}
    for line in head.splitlines()[:100]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("utf-8", "replace")
    return headers, data.removesuffix(b"\n").removesuffix(b"\r")


def _events(text: str) -> list[Json]:
    """The data of server-sent events, read as JSON where it is."""
    events: list[Json] = []
    for block in re.split(r"\r?\n\r?\n", text, maxsplit=MAX_PARTS)[:MAX_PARTS]:
        data = "\n".join(line[5:].removeprefix(" ") for line in block.splitlines() if line.startswith("data:"))
        if not data:
            continue
        try:
            events.append(read_json(data.encode()))
        except (ValueError, RecursionError):
            events.append(data)
    return events
