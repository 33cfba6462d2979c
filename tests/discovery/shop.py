"""A made-up shop's API as traffic: collections, items, words as ids, a map, refusals. Deterministic."""

import json
import random
from collections.abc import Iterator

from discovery.exchange import Exchange, Request, Response

JSON = ((b"content-type", b"application/json"),)
PEOPLE = ["ada", "grace-h", "linus", "Margaret", "barbara", "edsger", "donald", "alan", "katherine", "annie"]
SKUS = ["red-shirt", "blue-shirt", "tea-pot", "lamp", "desk", "chair", "globe", "pen"]


def exchange(
    method: str, target: str, status: int, answer: object = None, body: object = None, at: float | None = None
) -> Exchange:
    """One exchange with JSON bodies."""
    request = Request(method, target.encode(), JSON if body is not None else (), _bytes(body))
    return Exchange("shop", request, Response(status, JSON, _bytes(answer)), at)


def _bytes(value: object) -> bytes:
    return b"" if value is None else json.dumps(value).encode()


def traffic(seed: int = 7, rounds: int = 40) -> list[Exchange]:
    return list(_traffic(random.Random(seed), rounds))


def _traffic(dice: random.Random, rounds: int) -> Iterator[Exchange]:
    for number in range(rounds):
        login, sku = PEOPLE[number % len(PEOPLE)], SKUS[number % len(SKUS)]
        order = _order(dice, 1000 + number, login)
        yield exchange("GET", f"/v1/users/{login}", 200, _user(dice, login))
        yield exchange("GET", "/v1/users", 200, [_user(dice, login) for login in PEOPLE[: 1 + number % 4]])
        yield exchange("GET", f"/v1/users/{login}/orders?page={number % 3}", 200, {"data": [order], "more": False})
        yield exchange("GET", f"/v1/users/{login}/settings", 200, {"theme": dice.choice(["dark", "light"])})
        yield exchange("POST", "/v1/orders", 201, order, {"sku": sku, "quantity": 1 + number % 5})
        yield exchange("GET", f"/v1/orders/{1000 + number}", 200, order)
        yield exchange("POST", f"/v1/orders/{1000 + number}/cancel", 200, order | {"status": "cancelled"})
        yield exchange(
            "GET", f"/v1/products/{sku}", 200, {"sku": sku, "price": dice.randrange(100) / 4, "stock": {}}
        )
        yield exchange("DELETE", f"/v1/products/{sku}", 204)
        if number % 5 == 0:
            wrong = {"detail": [{"loc": ["body", "sku"], "msg": "field required"}]}
            yield exchange("POST", "/v1/orders", 422, wrong, {"product": sku})
        yield exchange("GET", "/v1/orders/search?q=x", 200, {"data": [order], "more": False, "score": 1})


def _user(dice: random.Random, login: str) -> dict[str, object]:
    user: dict[str, object] = {
        "id": dice.randrange(10**6),
        "login": login,
        "kind": dice.choice(["ADMIN", "STAFF"]),
    }
    if dice.random() < 0.5:
        user["bio"] = None if dice.random() < 0.5 else "likes tea"
    return user


def _order(dice: random.Random, number: int, login: str) -> dict[str, object]:
    ids = [f"{dice.getrandbits(128):032x}" for _ in range(3)]
    return {
        "id": number,
        "status": dice.choice(["open", "paid", "shipped"]),
        "created_at": f"2026-01-{1 + number % 28:02}T10:00:00Z",
        "buyer": {"login": login, "id": dice.randrange(10**6), "kind": "STAFF"},
        "prices": {key: dice.randrange(100) for key in ids},
    }
