"""What an error says was wrong is found in the request as it was sent: by path, by name, by value."""

import json

import pytest

from discovery.body import read_body
from discovery.complaints import complaints_of
from discovery.exchange import Request
from discovery.hints import Reason, read_hints
from discovery.pointer import path_of

JSON = ((b"Content-Type", b"application/json"),)
FORM = ((b"Content-Type", b"application/x-www-form-urlencoded"),)


def hints(error, body=None, target=b"/things", method="POST", headers=JSON):
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = Request(method, target, headers, sent)
    tree = read_body(JSON, error if isinstance(error, bytes) else json.dumps(error).encode()).value
    return read_hints(request, complaints_of(tree))


def told(*args, **more):
    return {(hint.where, hint.pointer): str(hint.reason) for hint in hints(*args, **more)}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.b[0].c", ("a", "b", 0, "c")),
        ("items[0][price]", ("items", 0, "price")),
        ("#/a/b~1c/0", ("a", "b/c", 0)),
        ("$.a['b']", ("a", "b")),
        ("body/tags", ("body", "tags")),
        ("/units/@id=='x'/amount", ("units", "amount")),
        ("name", ("name",)),
        ("", ()),
    ],
)
def test_a_place_is_read_in_every_way_it_is_written(text, path):
    assert path_of(text) == path


@pytest.mark.parametrize(
    "written", ["first_name", "firstName", "FirstName", "first-name", "user.first_name", "/user/firstName"]
)
def test_names_are_found_across_case_styles(written):
    error = {"errors": [{"field": written, "message": "is too long (maximum 5)"}]}

    assert told(error, {"user": {"firstName": "abcdefgh"}}) == {("body", "/user/firstName"): "length"}


@pytest.mark.parametrize(
    "sentence",
    [
        "The 'colour' must be one of: red, blue",
        "colour must be one of red or blue",
        "Invalid colour: must be either `red` or `blue`",
        '"colour" should be one of ["red", "blue"]',
    ],
)
def test_a_plain_sentence_gives_place_reason_and_what_is_allowed(sentence):
    [hint] = hints({"message": sentence}, {"colour": "pink", "size": 1})

    assert (hint.pointer, hint.reason, hint.allowed) == ("/colour", Reason.ENUM, ("red", "blue"))


def test_a_quoted_value_is_traced_to_the_one_slot_that_holds_it():
    assert told({"message": "9 must be less than or equal to 6."}, {"a": 1, "count": 9}) == {
        ("body", "/count"): "range"
    }
    assert told({"message": "9 must be less than or equal to 6."}, {"a": 9, "count": 9}) == {}


def test_a_name_given_as_data_leads_to_its_value():
    body = {"properties": [{"property": "phone", "value": "1"}, {"property": "email", "value": "x"}]}

    assert told({"errors": [{"name": "email", "message": "is invalid"}]}, body) == {
        ("body", "/properties/1/value"): "format"
    }


def test_forms_and_the_json_inside_them_are_seen_as_trees():
    error = {"error": {"param": "items[1][price]", "message": "must be a number"}}
    assert told(error, b"items[0][price]=1&items[1][price]=x", headers=FORM) == {
        ("body", "/items/1/price"): "type"
    }

    error = {"messages": ["missing required field: type [json-pointer:/view]"]}
    assert told(error, b"trigger=1&view=%7B%7D", headers=FORM) == {("body", "/view/type"): "missing"}


def test_a_read_is_told_of_its_query():
    error = {"message": "limit must be a positive integer"}

    assert told(error, target=b"/things?limit=x&page=1", method="GET") == {("query", "/limit"): "range"}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"data": {"size": 1}}, "/data/name"),
        ({"thing": {"size": 1}, "note": "x"}, "/thing/name"),
        ({"account": {"kind": "a", "details": {}}}, "/account/details/name"),
        ({"author": {"name": "A", "email": "e"}, "editor": {"email": "e"}}, "/editor/name"),
        ({"things": [{"name": "a", "n": 1}, {"n": 2}]}, "/things/1/name"),
        ({"size": 1}, "/name"),
    ],
)
def test_what_is_missing_is_placed_where_it_would_go(body, pointer):
    assert told({"message": "'name' is required"}, body) == {("body", pointer): "missing"}


def test_only_the_deepest_of_nested_places_is_named():
    error = {
        "errors": {
            "creates": [{"index": 1, "message": "Validation failed", "errors": {"kind": ["is unsupported"]}}]
        }
    }

    assert list(told(error, {"creates": [{"kind": "a"}, {"kind": "b"}]})) == [("body", "/creates/1/kind")]


@pytest.mark.parametrize(
    "message",
    ["Something went wrong", "Validation failed", "The request could not be processed.", "Not found", ""],
)
def test_a_sentence_that_names_nothing_gives_no_hint(message):
    assert hints({"message": message, "code": 42}, {"name": "x", "request": "y", "code": "z"}) == ()


def test_words_of_every_day_are_no_names():
    error = {"message": "The value you provided for this request is not valid, please check the documentation"}

    assert hints(error, {"for": 1, "this": 2, "value": 3}) == ()


def test_a_broken_request_is_told_as_a_whole():
    assert told({"message": "Invalid JSON: unexpected end of input"}, b'{"a": ') == {("body", ""): "format"}


def test_pointers_escape_what_json_pointers_must():
    assert told({"errors": {"a/b": ["is required"]}}, {"a/b": ""}) == {("body", "/a~1b"): "missing"}
