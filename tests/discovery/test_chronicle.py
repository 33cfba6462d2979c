"""A change is kept once it was told: with its beginning, told once, told better, and until it is over."""

import json
from typing import Any

from discovery.chronicle import Chronicle, acknowledged, load, news_since, noted
from discovery.drift import drifts_among, operations_of
from discovery.drift_telling import tell
from discovery.drift_watch import Watch
from discovery.exchange import Exchange, Request, Response

JSON = ((b"content-type", b"application/json"),)
KEY = b"a key of this test's own"
DAY = 86400.0


class Told:
    """An upstream whose answers are looked at one by one, and whose chronicle is kept along the way."""

    def __init__(self) -> None:
        self.watch = Watch(KEY)
        self.kept = Chronicle()
        self.at = 1_800_000_000.0

    def see(self, answers: list[dict[str, Any]], status: int = 200) -> None:
        for number, answer in enumerate(answers):
            self.at += 60
            request = Request("GET", f"/orders/{500000 + answer.get('n', number)}".encode())
            told = Response(status, JSON, json.dumps({k: v for k, v in answer.items() if k != "n"}).encode())
            self.watch.fold(Exchange("shop", request, told, self.at))

    def judge(self) -> list[tuple[str, str, bool]]:
        operations = operations_of(self.watch, lambda place: "/" + "/".join(place[1]))
        told = drifts_among(operations, news_since(self.kept, operations))
        self.kept = load(json.loads(json.dumps(noted(self.kept, told, operations, self.at, 7).state())))
        return [(one.drift.kind, one.drift.pointer, one.over is not None) for one in self.kept.events]


def orders(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"n": n, "id": f"ord_{n:06}", "total": 1000 + n * 17, "note": f"note {n * 31}"} | more
        for n in (number % 20 for number in range(count))
    ]


def without(name: str, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != name} for one in answers]


def test_a_change_is_told_long_after_the_answers_before_it_are_forgotten() -> None:
    shop = Told()
    shop.see(orders(30))
    shop.see(without("note", orders(10)))
    assert shop.judge() == [("field-removed", "/note", False)]
    (first,) = shop.kept.events

    for stream in shop.watch.streams.values():
        del stream.seen[:30]
    shop.see(without("note", orders(300)))

    assert shop.judge() == [("field-removed", "/note", False)]
    (later,) = shop.kept.events
    assert (later.id, later.found, later.revision) == (first.id, first.found, 7)
    assert later.drift.first_seen == 1_800_000_000.0 + 31 * 60
    assert later.confidence > 0.99


def test_what_is_judged_again_and_again_is_one_event() -> None:
    shop = Told()
    shop.see(orders(30))
    for _ in range(12):
        shop.see(orders(5, region="eu"))
        shop.judge()

    assert shop.judge() == [("field-added", "/region", False)]


def test_a_field_that_comes_back_ends_the_event_and_leaving_again_is_another() -> None:
    shop = Told()
    shop.see(orders(40))
    shop.see(without("note", orders(30)))
    shop.judge()

    shop.see(orders(30))

    assert shop.judge() == [("field-removed", "/note", True)]
    (event,) = shop.kept.events
    assert event.over == 1_800_000_000.0 + 71 * 60
    assert tell(event.drift, event.over).endswith(", but no more since 2027-01-15 09:11 UTC")
    shop.see(without("note", orders(30)))
    assert shop.judge() == [("field-removed", "/note", False), ("field-removed", "/note", True)]


def test_kinds_of_change_that_are_taken_back_are_over() -> None:
    texts: dict[str, list[dict[str, Any]]] = {
        "type-changed": [{**one, "total": str(one["total"])} for one in orders(30)],
        "became-nullable": [{**one, "note": None} for one in orders(30)],
        "field-added": orders(30, region="eu"),
        "became-optional": [
            one for pair in zip(orders(20), without("note", orders(20))[::-1], strict=True) for one in pair
        ],
        "field-renamed": [
            {("sum" if key == "total" else key): value for key, value in one.items()} for one in orders(30)
        ],
        "envelope-changed": [{"n": one["n"], "data": without("n", [one])[0]} for one in orders(30)],
    }
    for kind, changed in texts.items():
        shop = Told()
        shop.see(orders(40))
        shop.see(changed)
        assert [(told, over) for told, _, over in shop.judge()] == [(kind, False)], kind

        shop.see(orders(40))

        assert (kind, True) in [(told, over) for told, _, over in shop.judge()], kind


def test_an_operation_that_returns_ends_its_removal() -> None:
    shop = Told()
    shop.see(orders(40))
    shop.see(orders(12), status=410)
    assert shop.judge() == [("operation-removed", "", False)]

    shop.see(orders(20))

    assert shop.judge() == [("operation-removed", "", True)]


def test_a_removal_that_proves_to_be_a_rename_is_told_as_one_event() -> None:
    shop = Told()
    shop.see(orders(30))
    renamed = [{("remark" if key == "note" else key): value for key, value in one.items()} for one in orders(20)]
    # Before the same entities come again nothing but the absence shows.
    shop.see([{**one, "n": 100 + one["n"], "id": f"x{one['n']}"} for one in without("note", orders(8))])
    first = shop.judge()
    shop.see(renamed)

    assert first == [("field-removed", "/note", False)]
    assert shop.judge() == [("field-renamed", "/note", False)]


def test_a_person_who_knows_is_remembered_and_what_is_stored_is_read_back() -> None:
    shop = Told()
    shop.see(orders(30))
    shop.see(orders(10, region="eu"))
    shop.judge()

    known = acknowledged(shop.kept, [shop.kept.events[0].id], 5.0)

    assert load(json.loads(json.dumps(known.state()))) == known
    assert known.events[0].acknowledged == 5.0
