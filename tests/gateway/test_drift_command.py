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
