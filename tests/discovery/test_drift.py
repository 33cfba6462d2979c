"""Drift is told from answers alone: each folder of `fixtures/drift` is a case."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from discovery.drift import SEVERITY, Drift, drifts, templates_of
from discovery.drift_telling import tell
from discovery.drift_watch import RECENT, SAMPLE, Watch
from discovery.exchange import Exchange, Request, Response
from discovery.traffic import Evidence

CASES = sorted(path for path in (Path(__file__).parents[2] / "fixtures" / "drift").iterdir() if path.is_dir())
JSON = ((b"content-type", b"application/json"),)
KEY = b"a key of this test's own"


def read(file: Path) -> list[Exchange]:
    return [_exchange(json.loads(line)) for line in file.read_text().splitlines()]


def _exchange(line: dict[str, Any]) -> Exchange:
    target = line["url"].split(".example", 1)[1].encode()
    body = (line["request_body"] or "").encode()
    return Exchange(
        line["api"],
        Request(line["method"], target, JSON if body else (), body),
        Response(line["status"], JSON, line["response_body"].encode()),
    )


def order(number: int, **more: object) -> dict[str, object]:
    return {"id": f"ord_{number:06}", "total": 1000 + number * 17, "note": f"note {number * 31}", **more}


def summed(told: dict[str, object]) -> dict[str, object]:
    return {"sum" if name == "total" else name: value for name, value in told.items()}


def got(number: int, answer: object, at: float | None = None) -> Exchange:
    request = Request("GET", f"/orders/{500000 + number}".encode())
    return Exchange("shop", request, Response(200, JSON, json.dumps(answer).encode()), at)


def found(exchanges: list[Exchange], watch: Watch | None = None) -> list[Drift]:
    watch, evidence = watch or Watch(KEY), Evidence(KEY)
    for one in exchanges:
        watch.fold(one)
        evidence.fold(one)
    return drifts(watch, templates_of(evidence))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_each_case_is_told_exactly(case: Path) -> None:
    expected = [json.loads(line) for line in (case / "expected.jsonl").read_text().splitlines()]

    told = found(read(case / "before.jsonl") + read(case / "after.jsonl"))

    seen = [{name: getattr(one, name) for name in line} for one, line in zip(told, expected, strict=False)]
    assert (len(told), seen) == (len(expected), expected)


def test_every_kind_has_a_case_and_a_severity() -> None:
    assert {case.name for case in CASES} >= SEVERITY.keys()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_before_a_change_nothing_is_told(case: Path) -> None:
    assert found(read(case / "before.jsonl")) == []


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_what_is_stored_and_merged_tells_the_same_as_what_is_watched(case: Path) -> None:
    before, after = read(case / "before.jsonl"), read(case / "after.jsonl")
    evidence, first, second = Evidence(KEY), Watch(KEY), Watch(KEY)
    for one in before:
        first.fold(one)
    for one in after:
        second.fold(one)
    for one in before + after:
        evidence.fold(one)

    stored = Watch.load(json.loads(json.dumps(first.state())))
    stored.merge(Watch.load(json.loads(json.dumps(second.state()))))

    assert drifts(stored, templates_of(evidence)) == found(before + after)


def test_a_removed_field_is_told_within_ten_answers() -> None:
    before = [got(number % 15, order(number % 15)) for number in range(30)]
    after = [got(number, {"id": f"ord_{number:06}", "total": 1000 + number * 17}) for number in range(8)]

    first = next(count for count in range(1, 9) if found(before + after[:count]))

    assert first <= 5
    assert [(one.kind, one.pointer) for one in found(before + after[:first])] == [("field-removed", "/note")]


def test_one_entity_that_changed_is_no_drift_however_often_it_is_seen() -> None:
    before = [got(number % 15, order(number % 15, closed_at=None)) for number in range(30)]
    after = [got(3, order(3, closed_at="2026-01-02T03:04:05Z", closed_by="ada")) for _ in range(40)]

    assert found(before + after) == []


def test_random_optional_fields_raise_no_alarm() -> None:
    dice = random.Random(11)
    exchanges = []
    for _ in range(300):
        number = dice.randrange(80)
        own = random.Random(number)
        fields = {f"field{index}": own.randrange(10**6) for index in range(20) if own.random() < index / 20}
        exchanges.append(got(number, order(number, **fields)))

    assert [found(exchanges[:count]) for count in (60, 150, 300)] == [[], [], []]


def test_memory_is_bounded_and_what_was_usual_is_not_forgotten() -> None:
    watch = Watch(KEY)
    before = [got(number % 50, order(number % 50)) for number in range(900)]
    after = [got(number % 50, order(number % 50, region="eu")) for number in range(150)]

    told = found(before + after, watch)

    assert [(one.kind, one.pointer) for one in told] == [("field-added", "/region")]
    (stream,) = watch.streams.values()
    assert len(stream.seen) < 2 * RECENT + SAMPLE
    assert len(Watch.load(watch.state()).streams["GET", ("orders", "{int}")].seen) <= RECENT + SAMPLE


def test_no_value_of_an_answer_is_kept() -> None:
    watch = Watch(KEY)
    secret = {
        "id": "ord_1",
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "token": "s3cr3t-token",
        "city": "London",
    }

    watch.fold(got(1, secret))

    kept = json.dumps(watch.state())
    assert not [value for value in secret.values() if value in kept and value != "London"]


def test_a_change_is_told_in_a_sentence_with_its_moment_and_counts() -> None:
    before = [got(number, order(number), at=1_760_000_000 + number) for number in range(20)]
    after = [
        got(
            number,
            {"id": f"ord_{number:06}", "sum": 1000 + number * 17, "note": f"note {number * 31}"},
            at=1_760_000_100,
        )
        for number in range(10)
    ]

    (told,) = found(before + after)

    assert told.first_seen == 1_760_000_100
    assert tell(told) == (
        "GET /orders/{order_id}: /total is called /sum now (same values for 10 of 10 that were seen under both), "
        "since 2025-10-09 08:55 UTC; there in 20 of 20 before, in none of 10 since"
    )


WORDS = [
    "name",
    "full_name",
    "title",
    "label",
    "total",
    "total_cents",
    "amount",
    "ref",
    "reference",
    "note",
    "state",
]


@pytest.mark.parametrize("seed", range(60))
def test_no_look_alike_is_ever_proved_a_rename(seed: int) -> None:
    """Fields go and others come at once: with a twin's value, another entity's, a constant, other units."""
    dice = random.Random(seed)
    old, new, twin = dice.sample(WORDS, 3)
    trap = dice.choice(["ambiguous", "foreign", "constant", "units", "kept"])

    def before(number: int) -> dict[str, object]:
        value = "EUR" if trap == "constant" else 1000 + number * 37
        return {"id": f"ord_{number:06}", "extra": number * 7919, old: value}

    def after(number: int) -> dict[str, object]:
        value: object = 1000 + number * 37
        told: dict[str, object] = {"id": f"ord_{number:06}", "extra": number * 7919}
        match trap:
            case "ambiguous":
                return told | {new: value, twin: value}
            case "foreign":
                return told | {new: 1000 + (number + 1) * 37}
            case "constant":
                return told | {new: "EUR"}
            case "units":
                return told | {new: (1000 + number * 37) * 100}
            case _:
                return told | {old: value, new: value}

    numbers = [dice.randrange(25) for _ in range(60)]
    exchanges = [got(number, before(number)) for number in numbers[:30]]
    exchanges += [got(number, after(number)) for number in numbers[30:]]

    told = found(exchanges)

    assert told
    assert [one for one in told if one.kind in ("field-renamed", "field-moved") and one.evidence["sure"]] == []
