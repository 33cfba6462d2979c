"""Every common recording is read as the same exchanges; what cannot be read is named, in its place."""

import base64
import gzip
import json

import pytest

from discovery.exchange import Exchange, Fault, Request, Response
from gateway.problems import ConfigError
from gateway.recordings import Skipped, read_recording, split_url

LINE = {
    "api": "billing",
    "method": "post",
    "url": "https://user:pw@billing.example.com:8443/v2/charges?ref=a%20b",
    "request_headers": {"Content-Type": "application/json", "X-Tag": ["one", "two"]},
    "request_body": '{"amount": 5}',
    "status": 201,
    "response_headers": {"Location": "/v2/charges/7"},
    "response_body": '{"id": 7}',
    "source": "a test",
    "at": 1700000000.5,
}

CHARGE = Exchange(
    "billing",
    Request(
        "POST",
        b"/v2/charges?ref=a%20b",
        ((b"Content-Type", b"application/json"), (b"X-Tag", b"one"), (b"X-Tag", b"two")),
        b'{"amount": 5}',
    ),
    Response(201, ((b"Location", b"/v2/charges/7"),), b'{"id": 7}'),
    1700000000.5,
    "https://billing.example.com:8443",
    "a test",
)


def har(*entries):
    return json.dumps({"log": {"version": "1.2", "entries": entries}})


def har_entry(**changes):
    return {
        "startedDateTime": "2023-11-14T22:13:20.500Z",
        "request": {
            "method": "POST",
            "url": "https://billing.example.com/v2/charges",
            "headers": [
                {"name": ":method", "value": "POST"},
                {"name": "content-type", "value": "application/json"},
            ],
            "postData": {"mimeType": "application/json", "text": '{"amount": 5}'},
        },
        "response": {
            "status": 201,
            "headers": [{"name": "Set-Cookie", "value": "a=1"}, {"name": "Set-Cookie", "value": "b=2"}],
            "content": {"text": base64.b64encode(b'{"id": 7}').decode(), "encoding": "base64"},
        },
    } | changes


VCRPY = """
interactions:
- request:
    body: !!python/unicode '{"amount": 5}'
    headers: {Content-Type: [application/json]}
    method: POST
    uri: https://billing.example.com/v2/charges
  response:
    body: {string: !!binary eyJpZCI6IDd9}
    headers: {location: [/v2/charges/7]}
    status: {code: 201, message: Created}
version: 1
"""

VCR_RUBY = """
---
http_interactions:
- request:
    method: post
    uri: https://billing.example.com/v2/charges
    body: {encoding: US-ASCII, string: '{"amount": 5}'}
    headers: {Content-Type: [application/json]}
  response:
    status: {code: 201, message: Created}
    headers: {Location: [/v2/charges/7]}
    body: {encoding: ASCII-8BIT, base64_string: eyJpZCI6IDd9}
  recorded_at: Tue, 14 Nov 2023 22:13:20 GMT
recorded_with: VCR 6.0.0
"""


def read(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_recording(path))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_of_exchange_jsonl_is_one_exchange(tmp_path, pack):
    found = read(tmp_path / "calls.jsonl", pack(b"\n" + json.dumps(LINE).encode() + b"\n"))

    assert found == [CHARGE]


def test_a_broken_line_is_named_in_its_place_and_the_rest_is_read(tmp_path):
    whole = json.dumps(LINE)

    found = read(tmp_path / "calls.jsonl", f'{whole}\n{whole[:40]}\n[1]\n{{"url": 1}}\n{whole}\n')

    assert found[0] == found[4] == CHARGE
    assert [skipped.where for skipped in found[1:4]] == ["line 2", "line 3", "line 4"]
    assert all(isinstance(skipped, Skipped) and skipped.why for skipped in found[1:4])


def test_a_recording_that_breaks_off_yields_what_it_held(tmp_path):
    packed = gzip.compress((json.dumps(LINE) + "\n").encode() * 2000, compresslevel=0)

    found = read(tmp_path / "calls.jsonl.gz", packed[: len(packed) // 2])

    assert found[0] == CHARGE
    assert isinstance(found[-1], Skipped) and "breaks off" in found[-1].why


def test_a_har_is_read_with_its_packed_bodies_and_repeated_headers(tmp_path):
    [found] = read(tmp_path / "browser.har", har(har_entry()))

    assert found.upstream == "billing.example.com"
    assert found.at == 1700000000.5
    assert found.request.headers == ((b"content-type", b"application/json"),)
    assert found.answer == Response(201, ((b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")), b'{"id": 7}')


def test_a_har_entry_that_is_no_call_is_named_in_its_place(tmp_path):
    socket = har_entry(request={"method": "GET", "url": "wss://billing.example.com/live"})
    cached = har_entry(_fromCache="memory")

    found = read(tmp_path / "browser.har", har(socket, cached, {"request": 1}, har_entry()))

    assert [type(one) for one in found] == [Skipped, Skipped, Skipped, Exchange]


def test_a_har_entry_without_a_status_is_an_unanswered_call(tmp_path):
    [found] = read(tmp_path / "browser.har", har(har_entry(response={"status": 0})))

    assert isinstance(found.answer, Fault)
    assert not found.answer.unsent


@pytest.mark.parametrize("text", [VCRPY, VCR_RUBY, VCR_RUBY.replace("\n", "\r\n")])
def test_cassettes_of_python_and_ruby_are_the_same_call(tmp_path, text):
    [found] = read(tmp_path / "cassette.yaml", text)

    assert found.request == Request(
        "POST", b"/v2/charges", ((b"Content-Type", b"application/json"),), b'{"amount": 5}'
    )
    assert isinstance(found.answer, Response)
    assert (found.answer.status, found.answer.body) == (201, b'{"id": 7}')


@pytest.mark.parametrize("text", ["{", '{"a": {"b": 1}', "- just\n- a list", "a: b: c", "hello"])
def test_what_is_no_recording_is_said_to_be_none(tmp_path, text):
    with pytest.raises(ConfigError):
        if all(isinstance(found, Skipped) for found in read(tmp_path / "file.yaml", text)):
            raise ConfigError("only skipped")


def test_a_missing_file_is_a_sentence_for_a_person(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        list(read_recording(tmp_path / "none.jsonl"))


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text((json.dumps(LINE) + "\n") * 300)
    told = []

    list(read_recording(path, told.append))

    assert told == sorted(told)
    assert told[-1] == path.stat().st_size


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example", ("https://a.example", "a.example", b"/")),
        ("/v1/x?y=1", ("", "", b"/v1/x?y=1")),
        ("http://[::1]:80/a#top", ("http://[::1]:80", "[::1]", b"/a")),
        ("https://a.example/caf\u00e9 1?q=a b", ("https://a.example", "a.example", b"/caf%C3%A9%201?q=a%20b")),
        ("https://a.example/%7Bx%7D", ("https://a.example", "a.example", b"/%7Bx%7D")),
    ],
)
def test_addresses_are_split_without_touching_their_encoding(url, expected):
    assert split_url(url) == expected
