# ruff: noqa: SIM905 (a list of words reads best as words)
"""What a piece of text looks like, all by itself: kinds of path segments, string formats, words of a name.

Everything here is a prior. A segment that is certainly a value (`is_value`) is never kept under its own name;
what looks like a word may still be one, and `discovery.templates` looks at the answers to tell.
"""

from __future__ import annotations

import re
from functools import lru_cache

_UUID = r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
_FORMATS = {
    "date-time": re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)", re.ASCII),
    "date": re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", re.ASCII),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "ipv4": re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)", re.ASCII),
    "ipv6": re.compile(r"(?=.*:.*:)[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}"),
    "email": re.compile(r"[^@\s<>:/]+@[^@\s<>/]+\.[^@\s<>/]+"),
    "uri": re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s{}]+"),
    "integer": re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII),
    "decimal": re.compile(r"-?(?:0|[1-9]\d{0,14})\.\d{1,12}", re.ASCII),
    "boolean": re.compile(r"true|false"),
}
"""Forms of a string, tried in this order. The last three are no formats of OpenAPI: a drifting number or
flag is told by them, and a query parameter's type."""

STRING_FORMATS = frozenset({"date-time", "date", "uuid", "ipv4", "ipv6", "email", "uri"})


def form_of(text: str) -> str:
    """Return which of the forms `text` has (`date-time`, `uuid`, `integer`, ...), or `""`."""
    if len(text) > 2000:
        return ""
    if text.isalpha():
        return "boolean" if text in ("true", "false") else ""
    for name, pattern in _FORMATS.items():
        if pattern.fullmatch(text):
            return name
    return ""


def has_form(text: str, form: str) -> bool:
    return len(text) <= 2000 and _FORMATS[form].fullmatch(text) is not None


# Names

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@lru_cache(maxsize=16384)
def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in any spelling, lower case: `nextPageToken` -> next, page, token."""
    return tuple(word.lower() for word in _WORDS.findall(name[:200]))


@lru_cache(4096)
def plain(name: str) -> str:
    """Return `name` without case and separators: `First-Name`, `first_name` and `firstName` are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def singular(word: str) -> str:
    """Return the singular of an English plural, by rule; other words as they are."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 5 and word.endswith("uses"):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def is_plural(word: str) -> bool:
    return singular(word) != word


_IDENTIFYING = frozenset(
    "id ids uid uuid guid key name names login username user slug handle code label tag ref sha branch number "
    "identifier email domain host hostname path filename owner repo org account zone topic title symbol sku "
    "alias nickname".split()
)


@lru_cache(maxsize=16384)
def is_identifying(name: str) -> bool:
    """Tell whether a field called `name` holds what could stand in a path: an id, a slug, a login."""
    words = words_of(name)
    return bool(words) and words[-1] in _IDENTIFYING


_PERSONAL = frozenset(
    "name names login username user nickname alias email mail phone mobile fax address street city town zip "
    "postal postcode company organization employer birthday birthdate dob surname firstname lastname fullname "
    "first last middle given family author owner title description summary message text body content comment "
    "note notes subject bio location slug handle password hostname domain path url uri href file filename id "
    "ids uid uuid guid sha hash digest token key secret signature html sku".split()
)


@lru_cache(maxsize=16384)
def is_personal(name: str) -> bool:
    """Tell whether values under `name` are told about someone or something: never kept, however few they are."""
    words = words_of(name)
    return bool(words) and words[-1] in _PERSONAL


_TAGS = {
    word: rank
    for rank, word in enumerate("type kind object event discriminator variant class category action".split())
}


@lru_cache(maxsize=16384)
def tag_rank(name: str) -> int | None:
    """Return how likely a field called `name` tells variants of its object apart (0 is best), or None."""
    words = words_of(name)
    if not words or words[-1] not in _TAGS:
        return None
    return _TAGS[words[-1]] + 10 * (len(words) - 1)


_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[ _.:/+-][A-Za-z0-9]+)*")


def is_token(text: str) -> bool:
    """Tell whether `text` could be one of a closed set: a short word or a few, with hardly a digit."""
    if len(text) > 40 or not _TOKEN.fullmatch(text):
        return False
    return sum(map(str.isdigit, text)) <= 3


# Path segments

_VERB = re.compile(r"(.+):([a-z][A-Za-z]{2,30})")
_SUFFIX = re.compile(r"(.+)(\.(?:json|jsonp|xml))")
_VERSION = re.compile(
    r"v?\d{1,2}(?:\.\d{1,3}){0,2}(?:(?:alpha|beta|rc|a|b|p)\d*(?:eap)?)?|v\d{1,4}|\d{4}-\d\d(?:-\d\d)?|v\d[\d_.-]*",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]{7,}")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")
_DOMAIN = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)+(?:com|org|net|io|dev|de|us|uk|eu|biz|co|xyz|ch|fr|cloud|tech|shop|ru|cn|"
    r"jp|nl|se|pl|br|ca|au|nz|online|site|example|invalid|localhost)\.?",
    re.I,
)
"""A host name. Endings that are words of APIs too (`info`, `test`, `me`) are left to the other evidence."""

_TIMEISH = re.compile(r"\d{4}-?\d\d-?\d\d(?:[T_ -].*)?", re.ASCII)


@lru_cache(maxsize=65536)
def segment_kind(text: str) -> str:
    """Return which kind of value a decoded path segment surely is, or `""`: it may be a word.

    `int`, `uuid`, `hex`, `date`, `email`, `domain`, `opaque` (an id of mixed letters and digits),
    `text` (signs no constant has: spaces, quotes, commas).
    """
    if not text:
        return ""
    if _NUMBER.fullmatch(text):
        return "int"
    if re.fullmatch(_UUID, text):
        return "uuid"
    if _TIMEISH.fullmatch(text):
        return "date"
    if "@" in text[1:] and form_of(text) == "email":
        return "email"
    if not _PLAIN.fullmatch(text):
        return "text"
    if _HEX.fullmatch(text) and any(character.isdigit() for character in text):
        return "hex"
    if _DOMAIN.fullmatch(text):
        return "domain"
    return "opaque" if _is_opaque(text) else ""


def is_version(text: str) -> bool:
    """Tell whether a segment names a version of the API: `v2`, `1.1`, `v1beta3`."""
    return _VERSION.fullmatch(text) is not None


def split_segment(text: str) -> tuple[str, str]:
    """Cut a custom verb or a file extension off a segment: `a1:batchGet` -> (`a1`, `:batchGet`)."""
    if found := _VERB.fullmatch(text):
        return found[1], ":" + found[2]
    if found := _SUFFIX.fullmatch(text):
        return found[1], found[2]
    return text, ""


def _is_opaque(text: str) -> bool:
    """Ids mix letters and digits again and again; words carry a number at their end at most.

    `prefix_` and `prefix-` parts are judged one by one: one opaque part makes the whole an id.
    """
    for part in re.split(r"[_.~-]", text):
        switches = len(re.findall(r"\d+|[a-z]+|[A-Z][a-z]+|[A-Z]+", part))
        digits = sum(character.isdigit() for character in part)
        if len(part) >= 9 and digits >= 2 and (switches >= 4 or digits >= 5):
            return True
        if len(part) >= 12 and digits >= 1 and switches >= 5 and len(part) / switches < 3:
            return True
        if len(part) >= 16 and (len(part) / switches < 2.6 or _is_noise(part)):
            return True
    return len(text) >= 6 and sum(character.isdigit() for character in text) >= 6


def _is_noise(part: str) -> bool:
    """Letters only, but no word can be read: five consonants in a row twice, or upper case inside at random."""
    runs = re.findall(r"[^aeiouyAEIOUY\d]{5,}", part)
    return len(runs) >= 2
