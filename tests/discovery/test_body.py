"""Bodies are read as what they are, whatever they are called, within bounds of time and memory."""

import gzip
import json
import time
import zlib

import pytest

from discovery.body import LIMIT, Body, Kind, form_tree, read_body
from discovery.markup import plain_text


def read(body, media=b"application/json", encoding=None, **more):
    headers = [(b"Content-Type", media)] if media else []
    if encoding:
        headers.append((b"Content-Encoding", encoding))
    return read_body(tuple(headers), body, **more)


@pytest.mark.parametrize(
    ("media", "body", "kind", "value"),
    [
        (b"application/json", b'{"a": 1}', Kind.JSON, {"a": 1}),
        (b"text/plain", b'{"a": 1}', Kind.JSON, {"a": 1}),
        (b"application/problem+json", b" [1]", Kind.JSON, [1]),
        (b"application/json", b"<html><h1>502</h1></html>", Kind.HTML, "<html><h1>502</h1></html>"),
        (b"application/json", b"Not found", Kind.TEXT, "Not found"),
        (b"application/json", b"\xef\xbb\xbf" + b'{"a": NaN}', Kind.JSON, {"a": None}),
        (b"application/json", '{"a": "é"}'.encode("latin-1"), Kind.JSON, {"a": "é"}),
        (b"application/json", '{"a": 1}'.encode("utf-16"), Kind.JSON, {"a": 1}),
        (b"application/json", b'{"a": 1, "a": 2}', Kind.JSON, {"a": 2}),
        (b"application/json", b")]}'\n[1]", Kind.JSON, [1]),
        (b"application/javascript", b'cb({"a": 1});', Kind.JSON, {"a": 1}),
        (b"application/x-ndjson", b'{"a": 1}\n{"b": 2}\n', Kind.LINES, [{"a": 1}, {"b": 2}]),
        (b"application/x-www-form-urlencoded", b"a[0]=1&b=2&b=3", Kind.FORM, {"a[0]": "1", "b": ["2", "3"]}),
        (None, b"ACK=Failure&L_CODE=1", Kind.FORM, {"ACK": "Failure", "L_CODE": "1"}),
        (b"text/xml", b'<s:a xmlns:s="u"><b q="1">t</b></s:a>', Kind.XML, {"a": {"b": {"@q": "1", "#text": "t"}}}),
        (b"text/xml", b"<a><c/><c>2</c></a>", Kind.XML, {"a": {"c": ["", "2"]}}),
        (b"text/event-stream", b'data: {"a": 1}\n\ndata: [DONE]\n\n', Kind.SSE, [{"a": 1}, "[DONE]"]),
        (b"image/png", b"\x89PNG\r\n\x1a\n\0\0", Kind.BINARY, None),
        (b"application/json", b"  \r\n", Kind.EMPTY, None),
        (b"application/json", b'{"a": ', Kind.UNREADABLE, '{"a": '),
    ],
)  # fmt: skip
def test_a_body_is_read_as_what_it_is(media, body, kind, value):
    found = read(body, media)

    assert (found.kind, found.value) == (kind, value)


def test_numbers_beyond_64_bits_are_numbers():
    value = read(b'{"big": 123456789012345678901234567890, "huge": ' + b"9" * 5000 + b"}").value

    assert value["big"] == pytest.approx(1.2345678901234568e29)
    assert value["huge"] is None


def test_a_form_with_files_is_its_fields():
    part = b'--XyZ\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"a", b"", b"hello") + part % (b"f", b'; filename="x.png"', b"\x89PN") + b"--XyZ--\r\n"

    found = read(body, b"multipart/form-data; boundary=XyZ")

    assert found == Body(Kind.MULTIPART, {"a": "hello", "f": {"filename": "x.png", "size": 3}})


@pytest.mark.parametrize(
    "packed", [gzip.compress(b'{"a": 1}', mtime=0), zlib.compress(b'{"a": 1}'), zlib.compress(b'{"a": 1}')[2:-4]]
)
def test_compressed_bodies_are_opened(packed):
    assert read(packed, encoding=b"gzip" if packed[:2] == b"\x1f\x8b" else b"deflate").value == {"a": 1}


def test_a_body_stored_decoded_under_its_old_header_is_read_as_it_is():
    assert read(b'{"a": 1}', encoding=b"gzip").value == {"a": 1}


@pytest.mark.parametrize("cut", [5, 15, -1])
def test_half_a_gzip_is_unreadable(cut):
    found = read(gzip.compress(b'{"a": "some longer text"}', mtime=0)[:cut], encoding=b"gzip")

    assert found.kind is Kind.UNREADABLE
    assert not found.hostile


BOMBS = {
    "nested lists": b"[" * 500_000,
    "nested and closed": b"[" * 1000 + b"]" * 1000,
    "nested mappings with brackets in text": b'{"}]":' * 900 + b"1" + b"}" * 900,
    "gzip": gzip.compress(b"[" + b" " * (LIMIT + 10), mtime=0),
    "entities": b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY c "&b;&b;">]><a>&c;</a>',
    "nested elements": b"<a>" * 100_000,
    "many elements": b"<a>" + b"<b/>" * 500_000 + b"</a>",
    "too large": b"[" + b"1," * LIMIT,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_unreadable_and_cheap(name):
    begun = time.process_time()

    found = read(BOMBS[name], b"text/xml" if BOMBS[name][:1] == b"<" else b"application/json")

    assert found.kind is Kind.UNREADABLE
    assert found.hostile
    assert found.note
    assert time.process_time() - begun < 2


def test_deep_but_sane_bodies_are_read():
    text = json.dumps({"a": [[[{"b": ["}]"] * 300}]]]}).encode()

    assert read(text).value == json.loads(text)


def test_any_bytes_are_some_kind_of_body():
    for length in range(0, 256, 5):
        for media in (
            b"application/json",
            b"text/xml",
            b"multipart/form-data",
            b"text/html; charset=nonsense",
            None,
        ):
            for start in (b"", b"<", b"{", b'"', b"\x1f\x8b", b"a=", b"--x\r\n"):
                assert isinstance(read(start + bytes(range(length)), media), Body)


def test_what_a_person_reads_of_a_page_is_without_its_tags():
    assert plain_text("<style>h1{}</style><h1>Bad &amp; sad</h1><script>x<y</script>") == "Bad & sad"


def test_a_query_keeps_blank_and_repeated_names():
    assert form_tree("a=&b=1&b=2&c%5Bd%5D=x") == {"a": "", "b": ["1", "2"], "c[d]": "x"}
