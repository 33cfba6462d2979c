"""`gimbal learn` before and after a change, then `gimbal drift`: a sentence, JSON, SARIF, an exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.__main__ import app

Learn: TypeAlias = Callable[[str], None]

CASES = Path(__file__).parents[2] / "fixtures" / "drift"


def gimbal(*words: str, url: str, folder: Path) -> Result:
    return CliRunner().invoke(app, [*words, "--store", url, "--data", str(folder)])


@pytest.fixture
def learned(store_url: str, tmp_path: Path) -> Learn:
    def learn(case: str) -> None:
        for part in ("before", "after"):
            told = gimbal(
                "learn", str(CASES / case / f"{part}.jsonl"), "--upstream", "shop", url=store_url, folder=tmp_path
            )
            assert told.exit_code == 0, told.output

    return learn


def test_a_breaking_change_is_a_line_and_exit_code_1(learned: Learn, store_url: str, tmp_path: Path) -> None:
    learned("field-renamed")

    told = gimbal("drift", "shop", url=store_url, folder=tmp_path)

    assert told.exit_code == 1
    (line,) = told.stdout.splitlines()
    assert line.startswith(
        "breaking  GET /customers/{customer_id}: /name is called /full_name now (same values for"
    )


def test_json_is_one_object_a_line_with_evidence(learned: Learn, store_url: str, tmp_path: Path) -> None:
    learned("field-added")

    told = gimbal("drift", "shop", "--json", url=store_url, folder=tmp_path)

    assert told.exit_code == 0
    (change,) = map(json.loads, told.stdout.splitlines())
    assert (change["kind"], change["pointer"], change["severity"]) == ("field-added", "/loyalty", "info")
    assert change["where"] == "response.200" and change["first_seen"] is None
    assert change["evidence"]["n_before"] == 23 and 0 < change["evidence"]["p"] < 1e-3


def test_sarif_names_rule_level_and_place(learned: Learn, store_url: str, tmp_path: Path) -> None:
    learned("field-removed")

    told = gimbal("drift", "shop", "--sarif", url=store_url, folder=tmp_path)

    (run,) = json.loads(told.stdout)["runs"]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("field-removed", "error")
    place = result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
    assert place == "shop GET /customers/{customer_id} response.200/email"
    assert result["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}


def test_no_change_and_no_such_upstream_are_told_apart(learned: Learn, store_url: str, tmp_path: Path) -> None:
    learned("nothing-variants")

    quiet = gimbal("drift", "shop", url=store_url, folder=tmp_path)
    unknown = gimbal("drift", "shops", url=store_url, folder=tmp_path)

    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert unknown.exit_code == 1 and "known: shop" in str(unknown.exception)


def test_an_acknowledged_change_is_not_counted_and_not_shown_again(
    learned: Learn, store_url: str, tmp_path: Path
) -> None:
    learned("field-renamed")
    line = gimbal("drift", "shop", url=store_url, folder=tmp_path).stdout
    change = line.rpartition("[")[2].strip("]\n")

    known = gimbal("drift", "shop", "--acknowledge", change, url=store_url, folder=tmp_path)
    again = gimbal("drift", "shop", url=store_url, folder=tmp_path)
    whole = gimbal("drift", "shop", "--all", "--json", url=store_url, folder=tmp_path)
    wrong = gimbal("drift", "shop", "--acknowledge", "ffff", url=store_url, folder=tmp_path)

    assert (known.exit_code, known.stderr) == (0, "shop: 1 change acknowledged\nshop: nothing else changed\n")
    assert (again.exit_code, again.stdout) == (0, "")
    assert json.loads(whole.stdout)["acknowledged"] > 0 and whole.exit_code == 0
    assert wrong.exit_code == 1 and "has no change ffff" in str(wrong.exception)


def test_what_was_found_is_kept_with_the_contracts_revision_and_told_since_a_day(
    learned: Learn, store_url: str, tmp_path: Path
) -> None:
    learned("field-removed")

    told = gimbal("drift", "shop", "--json", "--since", "1h", url=store_url, folder=tmp_path)
    later = gimbal("drift", "shop", "--json", "--since", "2099-01-01", url=store_url, folder=tmp_path)

    change = json.loads(told.stdout)
    assert change["found"] > 0 and change["revision"] == 2 and change["over"] is None
    assert change["confidence"] > 0.99
    assert (later.stdout, later.exit_code) == ("", 0)
    assert gimbal("drift", "shop", "--since", "soon", url=store_url, folder=tmp_path).exit_code != 0


def test_announcements_are_told_apart_from_changes(store_url: str, tmp_path: Path) -> None:
    headers = {
        "Content-Type": "application/json",
        "Deprecation": "@1782864000",
        "Link": '</v2>; rel="successor-version"',
    }
    line = {
        "api": "shop",
        "method": "GET",
        "url": "https://shop.example/v1/customers",
        "request_headers": {},
        "request_body": None,
        "status": 200,
        "response_headers": headers,
        "response_body": "[]",
        "source": "a test",
    }
    file = tmp_path / "traffic.jsonl"
    file.write_text((json.dumps(line) + "\n") * 3)
    learned = gimbal("learn", str(file), "--upstream", "shop", url=store_url, folder=tmp_path)
    assert learned.exit_code == 0, learned.output

    lines = gimbal("drift", "shop", "--json", url=store_url, folder=tmp_path)
    text = gimbal("drift", "shop", url=store_url, folder=tmp_path)
    alone = gimbal("drift", "shop", "--announced", "--json", url=store_url, folder=tmp_path)

    assert lines.stdout == ""
    assert text.stdout == (
        "notice    GET /v1/customers is deprecated since 2026-07-01, its successor is /v2; said by 3 answers\n"
    )
    assert json.loads(alone.stdout)["successor"] == "/v2"
