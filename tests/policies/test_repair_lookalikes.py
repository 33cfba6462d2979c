"""A required field is filled with what this thing was seen to have, or not at all: never with a look-alike's."""

from __future__ import annotations

import json
import random
from typing import Any

from discovery.exchange import Request, Response
from discovery.hints import Hint, Reason
from policies.history import Memory
from policies.repair import Evidence, NeedsInput, Repaired, repair

JSON = ((b"content-type", b"application/json"),)
ASKED = ("email", "phone", "tax_number", "iban", "name", "status", "currency")

Body = dict[str, Any]


def customer(dice: random.Random, number: int, email: str = "") -> Body:
    return {
        "id": f"cus_{number}",
        "email": email or f"p{dice.randrange(10**6)}@example.com",
        "phone": f"+49 30 {dice.randrange(10**6):06d}",
        "tax_number": f"DE{dice.randrange(10**9):09d}",
        "iban": f"DE{dice.randrange(10**20):020d}",
        "name": dice.choice(["Ada Lovelace", "Ben Li"]),
        "status": dice.choice(["active", "paused"]),
        "currency": dice.choice(["eur", "usd"]),
    }


class Instance:
    """One workflow's history, and a request of its that was refused for lacking `field`. What may be filled in is
    `truth`: None where the history has no one answer."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        shared = f"family{seed}@example.com" if dice.random() < 0.3 else ""
        people = [customer(dice, number, shared) for number in range(10, 10 + dice.choice((1, 1, 1, 2, 4)))]
        mine = people[0]
        self.field = dice.choice(ASKED)
        self.memories: list[Memory] = []
        seen: set[str] = set()

        def show(target: str, body: Any) -> None:
            answer = Response(200, JSON, json.dumps(body).encode())
            self.memories.append(Memory(f"c{len(self.memories)}", Request("GET", target.encode()), answer))

        for one in people[1:]:
            show(f"/customers/{one['id']}", one)
        met = dice.random() < 0.7
        if met and dice.random() < 0.5:
            show(f"/customers/{mine['id']}", mine)
            seen.add(str(mine[self.field]))
        elif met:
            show("/customers", {"data": dice.sample(people, len(people)), "has_more": False})
            seen.add(str(mine[self.field]))
        if dice.random() < 0.3:  # it changed on the way
            show(f"/customers/{mine['id']}", {**mine, self.field: (other := str(dice.randrange(10**6)))})
            seen.add(other)
        if dice.random() < 0.4:  # of that name, of something else
            show("/me", {"account": f"acc_{seed}", self.field: f"our own {seed}"})
            show(f"/suppliers/{mine['id'][4:]}", {"id": int(mine["id"][4:]), self.field: f"supplier {seed}"})
        dice.shuffle(self.memories)
        self.truth = seen.pop() if len(seen) == 1 else None
        body = {"customer_id": mine["id"], "amount": 100 + seed}
        self.request = Request("POST", b"/charges", JSON, json.dumps(body).encode())


def test_what_is_filled_in_is_always_what_that_customer_was_seen_to_have() -> None:
    filled = 0
    for seed in range(400):
        instance = Instance(seed)
        hint = Hint(f"/{instance.field}", Reason.MISSING, (), f"{instance.field} is required")

        done = repair(instance.request, [hint], Evidence(instance.memories))

        match done:
            case Repaired(request):
                assert json.loads(request.body)[instance.field] == instance.truth, seed
                filled += 1
            case NeedsInput(fields):
                assert [one.pointer for one in fields] == [f"/{instance.field}"]
            case None:
                raise AssertionError(f"nothing was made of a refusal that names a field: {seed}")
    assert filled > 15  # where it was seen, and nothing else was, it is filled in
