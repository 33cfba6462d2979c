"""`gimbal contracts NAME --against FILE`: what was seen of an upstream, held against its vendor's document."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from gateway.commands.render import put, put_json, say
from gateway.problems import ConfigError

if TYPE_CHECKING:
    from discovery.contract import Contract
    from discovery.traffic import Evidence


def against(file: Path, evidence: Evidence, overrides: list[str], base_url: str, as_json: bool) -> None:
    """Print one line a difference; exit 1 if there is any."""
    from discovery.baseline import Verdict, differences

    baseline = baseline_in(file)
    found = differences(evidence, baseline, _prefix(baseline, base_url), overrides)
    for one in found:
        if as_json:
            put_json(asdict(one))
        else:
            place = " ".join(part for part in (one.where, one.pointer) if part and part != "operation")
            put(f"{one.verdict.value:<11} {one.operation}{f' {place}' if place else ''}: {one.message} ({one.n}x)")
    wrong = sum(one.verdict is Verdict.CONTRADICTS for one in found)
    known = len(baseline.operations)
    say(f"{wrong} contradict {file.name} ({known} operations), {len(found) - wrong} are not in it")
    if found:
        raise typer.Exit(1)


def _prefix(baseline: Contract, base_url: str) -> str:
    """Return the path of the base URL where the document's templates have it before them."""
    prefix = urlsplit(base_url).path.rstrip("/")
    begin = any(operation.template.startswith(f"{prefix}/") for operation in baseline.operations)
    return prefix if begin else ""


def baseline_in(file: Path) -> Contract:
    """Return the contract that a document in JSON or YAML states."""
    from discovery.contract import given

    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    try:
        told: Any = json.loads(text)
    except ValueError:
        import yaml

        try:
            told = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{file} is neither JSON nor YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict) or not isinstance(told.get("paths"), dict):
        raise ConfigError(f"{file} is no OpenAPI document: it has no paths")
    return given(told)
