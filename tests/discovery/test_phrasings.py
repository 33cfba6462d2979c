"""Sentences that validators write by a fixed form: the place that stands in them is found, and why."""

import pytest

from discovery.phrasings import phrases_of


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            "Key: 'Order.Lines[0].Sku' Error:Field validation for 'Sku' failed on the 'required' tag",
            ("Lines", 0, "Sku"),
        ),
        ('Variable "$n" got invalid value "x"; Int cannot represent non-integer value: "x"', ("variables", "n")),
        (
            'Variable "$in" got invalid value {} at "in.lines[0]"; Field "sku" of required type "ID!"',
            ("variables", "in", "lines", 0, "sku"),
        ),
        (
            'Bad (through reference chain: shop.Order["lines"]->java.util.ArrayList[2]->shop.Line["qty"])',
            ("lines", 2, "qty"),
        ),
        ("'x' is not of type 'integer'\n\nOn instance['lines'][0]['qty']:\n    'x'", ("lines", 0, "qty")),
        (
            "1 validation error for Order\nlines.0.qty\n  Input should be an integer [type=int_type]",
            ("lines", 0, "qty"),
        ),
        ("#/lines/0: required key [sku] not found", ("lines", 0, "sku")),
        ("$.lines[0].qty: must be a number", ("lines", 0, "qty")),
        (
            "The JSON value could not be converted to System.Int32. Path: $.lines[0].qty | LineNumber: 0",
            ("lines", 0, "qty"),
        ),
        (
            "Field error in object 'order' on field 'lines[0].qty': rejected value [x]",
            ("lines", 0, "qty"),
        ),
        ('Cast to Number failed for value "x" (type string) at path "qty"', ("qty",)),
        (
            'Bad body: lines[0].qty: invalid type: string "x", expected u32 at line 1 column 10',
            ("lines", 0, "qty"),
        ),
    ],
)
def test_the_place_in_a_sentence_of_a_known_form_is_found(text, path):
    assert [phrase.path for phrase in phrases_of(text)] == [path]


def test_every_place_of_a_text_of_many_is_found():
    text = (
        "Key: 'Order.Email' Error:Field validation for 'Email' failed on the 'email' tag\n"
        "Key: 'Order.Name' Error:Field validation for 'Name' failed on the 'required' tag"
    )
    assert [(phrase.path, phrase.codes) for phrase in phrases_of(text)] == [
        (("Email",), ("email",)),
        (("Name",), ("required",)),
    ]


@pytest.mark.parametrize(
    "text", ["", "The name is required", "See /docs/errors for more", "a: b", "Path: unknown"]
)
def test_free_writing_gives_no_phrase(text):
    assert phrases_of(text) == []
