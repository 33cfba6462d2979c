"""From drift to edits: what is proved is repaired, and no look-alike is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest

from discovery.adapt import Adaptation, back
from discovery.amend import compose
from discovery.drift import drifts, operations_of
from discovery.drift_watch import Watch
from discovery.edits import Coerce, EnumMap, Form, Lost
from discovery.exchange import Exchange, Request, Response
from discovery.shape import Shape, example_of, merged, shape_of

KEY = b"a key of this test alone"
JSON = ((b"content-type", b"application/json"),)

Body = dict[str, Any]
Change = Callable[[Body], Any]


def entity(dice: random.Random, number: int) -> Body:
    """One customer of a made-up shop: some members tell it from others, some hardly do."""
    return {
        "id": f"cus_{number:04d}{dice.randrange(16**6):06x}",
        "name": f"{dice.choice(['Ada', 'Ben', 'Cem', 'Dua'])} {dice.randrange(10**6)}",
        "email": f"p{dice.randrange(10**8)}@example.com",
        "phone": f"+49 30 {dice.randrange(10**7):07d}",
        "cents": dice.randrange(1000, 99999),
        "level": dice.randrange(5),
        "active": dice.random() < 0.6,
        "country": dice.choice(["DE", "FR", "NL"]),
        "source": "web",
        "state": dice.choice(["in_progress", "canceled", "paid"]),
        "created_at": 1_600_000_000 + dice.randrange(10**8),
        "tag": f"t{dice.randrange(10**6)}",
        "address": {"city": f"City {dice.randrange(10**5)}", "zip": f"{dice.randrange(10**5):05d}"},
    }


def seen(change: Change, *, seed: int = 1, pinned: Change = lambda body: body, answers: int = 16) -> Adaptation:
    """Watch sixteen customers polled before a change and after it; return what is composed of the drift."""
    dice = random.Random(seed)
    customers = [entity(dice, number) for number in range(answers)]
    before, after = ([turn(json.loads(json.dumps(c))) for c in customers] for turn in (pinned, change))
    watch = Watch(KEY)
    for bodies in (before, before, after):
        for customer, body in zip(customers, bodies, strict=True):
            request = Request("GET", f"/customers/{customer['id']}".encode())
            watch.fold(Exchange("shop", request, Response(200, JSON, json.dumps(body).encode())))
    found = [d for d in drifts(watch, lambda place: "/customers/{id}") if d.where.startswith("response")]
    operation = next(iter(operations_of(watch, lambda place: "/customers/{id}")))
    pin = reduce(merged, map(shape_of, before[:10]), Shape())
    return compose(found, pin, [example_of(body) for body in after[-8:]], operation.seen, operation.words)


def brought_back(adaptation: Adaptation, body: Any) -> Any:
    return json.loads(back(adaptation.in_force(), json.dumps(body).encode()).body)


def repairs(adaptation: Adaptation) -> list[Any]:
    return [edit for edit in adaptation.in_force() if not isinstance(edit, Lost)]


def renamed(old: str, new: str) -> Change:
    return lambda body: {new if name == old else name: value for name, value in body.items()}


def without(name: str) -> Change:
    return lambda body: {key: value for key, value in body.items() if key != name}


def with_(**members: Callable[[Body], Any]) -> Change:
    return lambda body: {**body, **{name: told(body) for name, told in members.items()}}


def as_it_is(body: Body) -> Body:
    return body


def both(*changes: Change) -> Change:
    return lambda body: reduce(lambda held, change: change(held), changes, body)


ANSWER = entity(random.Random(99), 99)

REPAIRED: dict[str, Change] = {
    "renamed": renamed("email", "mail_address"),
    "renamed to a word of its own": renamed("phone", "contact"),
    "an object renamed": renamed("address", "location"),
    "moved into an object": both(with_(contact=lambda b: {"email": b["email"]}), without("email")),
    "moved out of an object": lambda b: {
        **b,
        "address": {"zip": b["address"]["zip"]},
        "city": b["address"]["city"],
    },
    "number as text": with_(cents=lambda b: str(b["cents"])),
    "scalar in a list": with_(tag=lambda b: [b["tag"]]),
    "in an envelope": lambda b: {"data": b},
    "in two": lambda b: {"response": {"result": b, "took": 3}},
    "in a list": lambda b: [b],
    "two at once": both(renamed("email", "mail_address"), renamed("phone", "phone_number")),
    "renamed and retyped": both(
        renamed("cents", "amount_cents"), with_(amount_cents=lambda b: str(b["amount_cents"]))
    ),
}


@pytest.mark.parametrize("change", REPAIRED.values(), ids=REPAIRED)
def test_a_change_that_values_prove_is_undone(change: Change):
    adaptation = seen(change)

    restored = brought_back(adaptation, change(ANSWER))

    assert {name: restored[name] for name in ANSWER} == ANSWER


def test_an_envelope_taken_away_is_put_back_and_what_stood_beside_it_is_lost():
    adaptation = seen(as_it_is, pinned=lambda b: {"data": b, "request_id": b["tag"] + "x"})

    adapted = back(adaptation.in_force(), json.dumps(ANSWER).encode())

    assert json.loads(adapted.body) == {"data": ANSWER}
    assert adapted.degraded == ("/request_id",)


def test_new_spellings_of_words_are_proved_by_entities():
    spelled = {"in_progress": "IN-PROGRESS", "canceled": "cancelled", "paid": "paid"}

    adaptation = seen(with_(state=lambda b: spelled[b["state"]]), answers=40)

    assert [type(edit) for edit in repairs(adaptation)] == [EnumMap]
    assert brought_back(adaptation, {"state": "IN-PROGRESS"}) == {"state": "in_progress"}


def test_what_was_removed_stays_absent_and_is_counted():
    adaptation = seen(without("email"))

    adapted = back(adaptation.in_force(), json.dumps(without("email")(ANSWER)).encode())

    assert "email" not in json.loads(adapted.body)
    assert adapted.degraded == ("/email",)


def test_a_time_in_another_form_waits_for_a_person():
    told = "2021-03-04T05:06:07Z"

    adaptation = seen(with_(created_at=lambda b: told))

    assert repairs(adaptation) == []
    assert [one.edit for one in adaptation.suggestions] == [Coerce("/created_at", Form.EPOCH, Form.DATE_TIME)]
    assert Coerce("/created_at", Form.EPOCH, Form.DATE_TIME) in adaptation.in_force({"/created_at"})


def shuffled(name: str, seed: int) -> Callable[[Body], Any]:
    """Another entity's value: the same set of values, none in its place."""
    return lambda body: entity(random.Random(f"{seed}{body['id']}"), 1)[name]


TRAPS: dict[str, tuple[Change, Change]] = {
    # name: (what the pin knew beside the customer, what changed)
    "two fields with equal values, one went": (
        with_(billing_mail=lambda b: b["email"]),
        both(with_(contact_mail=lambda b: b["email"]), without("billing_mail")),
    ),
    "two fields with equal values, both went": (
        with_(billing_mail=lambda b: b["email"]),
        both(with_(mail=lambda b: b["email"]), without("billing_mail"), without("email")),
    ),
    "two fields came with the value": (
        as_it_is,
        both(with_(mail=lambda b: b["email"], email_verified=lambda b: b["email"]), without("email")),
    ),
    "swapped fields": (
        as_it_is,
        lambda b: {**b, "email": b["phone"], "phone": b["email"]},
    ),
    "a field swapped away under a new name": (
        as_it_is,
        both(with_(email=lambda b: b["phone"], mail=lambda b: b["tag"]), without("phone")),
    ),
    "a similar name with other values": (
        as_it_is,
        both(with_(email_hash=lambda b: f"h{hash(b['id']) % 10**8}"), without("email")),
    ),
    "a similar name with the same set of values": (
        as_it_is,
        both(with_(country_code=shuffled("country", 5)), without("country")),
    ),
    "a shared constant": (as_it_is, both(with_(channel=lambda b: "web"), without("source"))),
    "a flag that is mostly alike": (
        as_it_is,
        both(with_(verified=lambda b: b["active"] or b["level"] == 3), without("active")),
    ),
    "a flag turned round": (as_it_is, both(with_(inactive=lambda b: not b["active"]), without("active"))),
    "a small number by chance": (as_it_is, both(with_(rank=shuffled("level", 7)), without("level"))),
    "cents become euros, as a fraction": (as_it_is, with_(cents=lambda b: b["cents"] / 100)),
    "cents become euros, as a text": (as_it_is, with_(cents=lambda b: str(b["cents"] // 100))),
    "cents become euros, as a decimal text": (as_it_is, with_(cents=lambda b: f"{b['cents'] / 100:.2f}")),
    "cents become euros under a new name": (
        as_it_is,
        both(with_(euros=lambda b: b["cents"] // 100), without("cents")),
    ),
    "a name reused for something else": (
        as_it_is,
        both(renamed("email", "mail"), with_(email=lambda b: {"verified": True})),
    ),
    "a code with zeros before it becomes a number": (
        with_(zip=lambda b: b["address"]["zip"]),
        with_(zip=lambda b: int(b["address"]["zip"])),
    ),
    "a list of several": (as_it_is, with_(tag=lambda b: [b["tag"], b["name"]])),
    "another state is no new spelling": (
        as_it_is,
        with_(state=lambda b: {"in_progress": "shipped", "canceled": "refunded", "paid": "unpaid"}[b["state"]]),
    ),
    "an envelope with another payload": (
        as_it_is,
        lambda b: {"data": {**entity(random.Random(b["id"]), 3)}},
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("pinned", "change"), TRAPS.values(), ids=TRAPS)
def test_a_look_alike_is_never_taken_for_the_thing(pinned: Change, change: Change, seed: int):
    adaptation = seen(both(pinned, change), seed=seed, pinned=pinned)

    assert repairs(adaptation) == []


def test_no_wrong_repair_in_a_fuzz_of_look_alikes():
    """A field goes, and another comes that shares its values for many of the entities, or for all of them with a
    third field as well; under any name. Nothing of that is a rename."""
    dice = random.Random(2024)
    members = ["name", "email", "phone", "cents", "level", "active", "country", "tag", "state"]
    wrong = []
    for round_ in range(60):
        old, other = dice.sample(members, 2)
        new = dice.choice([f"{old}_new", f"new_{other}", "x", f"{old}s", old[:-1], f"{other}_of_{old}"])
        kind, share = dice.choice(["many", "twin", "other"]), dice.choice([0.0, 0.3, 0.6, 0.8])
        pinned = with_(third=lambda b, old=old: b[old]) if kind == "twin" else as_it_is
        change = both(with_(**{new: look_alike(kind, old, other, share, round_)}), without(old))
        adaptation = seen(both(pinned, change), seed=round_, pinned=pinned, answers=12)
        wrong += [(round_, old, new, edit) for edit in repairs(adaptation)]

    assert wrong == []


def look_alike(kind: str, old: str, other: str, share: float, seed: int) -> Callable[[Body], Any]:
    """The value of `old`: for many entities, but never for all; for all, as a twin has it; or another member's."""

    def mostly(body: Body) -> Any:
        lucky = random.Random(f"{seed}{body['id']}").random() < share and not body["id"].startswith("cus_0003")
        return body[old] if lucky else shuffled(old, seed)(body)

    return {"many": mostly, "twin": lambda b: b[old], "other": lambda b: b[other]}[kind]
