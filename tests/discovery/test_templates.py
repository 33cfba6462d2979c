"""Path templates are drawn from what was answered, not from the look of segments alone."""

import random

import pytest
from shop import PEOPLE, exchange, traffic

from discovery import traffic as observing
from discovery.templates import Template, draw
from discovery.traffic import Evidence


def learned(exchanges: list, prefix: str = "") -> Evidence:  # type: ignore[type-arg]
    evidence = Evidence(b"key")
    for one in exchanges:
        evidence.fold(one, prefix=prefix)
    return evidence


def paths(evidence: Evidence, overrides: tuple[str, ...] = ()) -> set[str]:
    return {template.path for template in draw(evidence, overrides)}


SHOP = {
    "/v1/users",
    "/v1/users/{user_login}",
    "/v1/users/{user_login}/orders",
    "/v1/users/{user_login}/settings",
    "/v1/orders",
    "/v1/orders/search",
    "/v1/orders/{order_id}",
    "/v1/orders/{order_id}/cancel",
    "/v1/products/{product_sku}",
}


def test_ids_that_are_words_are_found_by_the_answers_and_constants_stay() -> None:
    assert paths(learned(traffic())) == SHOP


def test_templates_do_not_depend_on_the_order_of_traffic() -> None:
    shuffled = traffic()
    random.Random(3).shuffle(shuffled)

    assert paths(learned(shuffled)) == SHOP


def test_templates_drawn_from_merged_shards_are_those_of_the_whole() -> None:
    whole = traffic()
    one, two = learned(whole[::2]), learned(whole[1::2])

    two.merge(one)

    assert paths(two) == SHOP
    assert two.state() == learned(whole).state()


def test_a_template_splits_and_merges_as_evidence_grows() -> None:
    user = {"id": 1, "login": "ada", "kind": "STAFF"}
    few = [exchange("GET", "/v1/members/ada", 200, {"status": "fine"})]
    more = [exchange("GET", f"/v1/members/{login}", 200, user | {"login": login}) for login in PEOPLE]

    before, after = paths(learned(few)), paths(learned([*few, *more]))

    assert before == {"/v1/members/ada"}
    assert after == {"/v1/members/{member_login}"}


def test_a_person_overrules_the_evidence_and_is_obeyed_for_good() -> None:
    evidence = learned(traffic())

    overruled = paths(evidence, ("/v1/users/ada", "/v1/orders/search/{term}"))

    assert "/v1/users/ada" in overruled and "/v1/users/{user_login}" in overruled


def test_a_parameter_can_be_named_by_a_person() -> None:
    assert "/v1/users/{who}/orders" in paths(learned(traffic()), ("/v1/users/{who}",))


def test_constants_that_are_answered_alike_stay_constants_below_several_values() -> None:
    people = {"data": [{"id": "1", "name": "x", "username": "y"}]}
    seen = [
        exchange("GET", f"/users/{number}/{what}", 200, people)
        for number in (783214, 372575989, 3015271772)
        for what in ("followers", "following", "blocked_people")
    ]

    assert paths(learned(seen)) == {
        f"/users/{{user_id}}/{what}" for what in ("followers", "following", "blocked_people")
    }


def test_a_version_at_the_front_is_no_parameter_but_an_id_behind_the_base_path_is() -> None:
    seen = [exchange("GET", f"/2/tweets/{number}", 200, {"data": {"id": str(number)}}) for number in (15, 16)]
    based = [exchange("GET", f"/v2/{number}/zones", 200, {"data": []}) for number in (731, 732)]

    assert paths(learned(seen)) == {"/2/tweets/{tweet_id}"}
    assert paths(learned(based, "/v2")) == {"/{item_id}/zones"}


def test_custom_verbs_and_extensions_stay_with_their_segment() -> None:
    seen = [
        exchange("POST", "/sheets/1aB2cD3eF4gH5iJ6:batchUpdate", 200, {"replies": []}),
        exchange("GET", "/statuses/12345.json", 200, {"id": 12345}),
        exchange("GET", "/statuses/home_timeline.json", 200, [{"id": 1}]),
    ]

    assert paths(learned(seen)) == {
        "/sheets/{sheet_id}:batchUpdate",
        "/statuses/{status_id}.json",
        "/statuses/home_timeline.json",
    }


def test_remote_procedures_are_not_taken_for_items() -> None:
    seen = [
        exchange("POST", f"/api/{name}", 200, {"ok": True}) for name in ("users.list", "users.info", "auth.test")
    ]

    assert paths(learned(seen)) == {"/api/users.list", "/api/users.info", "/api/auth.test"}


def test_each_parameter_says_why_it_is_one() -> None:
    user = find(draw(learned(traffic())), "/v1/users/{user_login}")

    assert user.parameters[0].certain
    assert "answers repeat it as 'login'" in user.parameters[0].why


def find(templates: list[Template], path: str) -> Template:
    return next(template for template in templates if template.path == path)


@pytest.mark.parametrize("depth", [1, 60])
def test_one_off_paths_stay_within_the_bound_in_any_order(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "MAX_PLACES", 300)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{letters[n % 26]}{letters[n // 26 % 26]}{letters[n // 676]}ly" for n in range(1500)]
    seen = [exchange("GET", "/things" + f"/{word}" * depth, 200, {"a": 1}) for word in words]

    evidence, reversed_ = learned(seen), learned(seen[::-1])

    assert evidence.state() == reversed_.state()
    assert evidence.places <= 300
    assert evidence.count == 1500
