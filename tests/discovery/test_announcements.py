"""Deprecation, Sunset and successors, as answers' headers announce them: read, kept, merged, told, withdrawn."""

import json

import pytest

from discovery.announced import announced
from discovery.announcements import Announcement, announcements, tell_announcement
from discovery.drift_watch import Watch
from discovery.exchange import Exchange, Headers, Request, Response

NOW = 1_800_000_000.0  # 2027-01-15
DAY = 86400.0

RETIRING: Headers = (
    (b"Deprecation", b"@1782864000"),
    (b"Sunset", b"Mon, 01 Feb 2027 00:00:00 GMT"),
    (
        b"Link",
        b'</customers?page=2>; rel="next", <https://api.example.com/v2/customers>; rel="successor-version", '
        b'<https://example.com/notes?utm=1>; type="text/html"; rel=deprecation',
    ),
)


def got(headers: Headers, number: int = 7, at: float = NOW) -> Exchange:
    request = Request("GET", f"/customers/{500000 + number}".encode())
    return Exchange("shop", request, Response(200, headers, b"{}"), at)


def told(watch: Watch) -> list[Announcement]:
    return announcements(watch, lambda place: "/" + "/".join(place[1]))


def test_headers_of_three_kinds_make_one_announcement() -> None:
    watch = Watch(b"key")
    for number in range(4):
        watch.fold(got(RETIRING, number, NOW + number))

    (one,) = told(Watch.load(json.loads(json.dumps(watch.state()))))

    assert (one.deprecated, one.sunset, one.answers, one.first_seen) == (1782864000, 1801440000, 4, NOW)
    assert tell_announcement(one, NOW) == (
        "GET /customers/{int} is deprecated since 2026-07-01, is to be switched off on 2027-02-01 (in 17 days), "
        "its successor is https://api.example.com/v2/customers, more at https://example.com/notes; "
        "said by 4 answers, first on 2027-01-15"
    )
    assert "was to be switched off on 2027-02-01 (13 days ago)" in tell_announcement(one, NOW + 30 * DAY)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (((b"deprecation", b"true"),), [("deprecated", "")]),
        (((b"deprecation", b"?0"),), []),
        (((b"deprecation", b"Fri, 01 Jan 2027 00:00:00 GMT"),), [("deprecated", "1798761600")]),
        (((b"sunset", b"2027-01-01"),), [("sunset", "1798761600")]),
        (((b"sunset", b"soon"),), []),
        (((b"link", b"<<>>;;rel=sunset, <"),), []),
        (((b"link", b'<https://e.example/s>; title="a, b"; rel="SUNSET next"'),), [("about-sunset", "https://e.example/s")]),
    ],
)  # fmt: skip
def test_forms_of_the_wild_are_read_and_nonsense_is_not(headers: Headers, expected: list[tuple[str, str]]) -> None:
    assert list(announced(headers)) == expected


def test_pieces_of_several_replicas_tell_as_one() -> None:
    whole, pieces = Watch(b"key"), [Watch(b"key") for _ in range(3)]
    for number in range(9):
        whole.fold(got(RETIRING, number, NOW + number))
        pieces[number // 3].fold(got(RETIRING, number, NOW + number))

    merged = Watch(b"key")
    for piece in pieces:
        merged.merge(piece)

    assert told(merged) == told(whole)


def test_an_announcement_that_is_made_no_more_is_withdrawn() -> None:
    watch = Watch(b"key")
    for number in range(6):
        watch.fold(got(RETIRING, number))
    for number in range(6):
        watch.fold(got((), number))

    (one,) = told(watch)

    assert one.withdrawn
    assert tell_announcement(one, NOW).endswith("; the latest answers say so no more")
