"""Variants: objects of several shapes under one name, told apart by a tag (`type: card` brings `card`).

Evidence counts, for each value of a tag, which keys came with it (`discovery.evidence.Objects.tags`). Where a tag
settles nearly every doubt about which keys are there, it explains them; values that bring the same keys are one
variant. Nothing is claimed of a tag that some objects lacked, or whose values were too many to count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from discovery.evidence import Objects
from discovery.lexical import tag_rank

SETTLED = 0.8
"""Share of the doubts about keys that a tag must settle (Goodman and Kruskal's lambda) to explain them."""

REPEATS = 3
"""Objects a value, on average, from which a tag is believed: a value seen once explains all it came with."""


_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_.:-][A-Za-z0-9]+)*")
"""What a kind is called; media types and sentences stand under such names too."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The objects with one of `values` (the most frequent first) at the tag: how many, how often each key came."""

    values: tuple[str, ...]
    count: int
    keys: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Union:
    """`tag` tells `variants` apart; `common` keys may come with any."""

    tag: str
    common: frozenset[str]
    variants: tuple[Variant, ...]


def union_of(objects: Objects) -> Union | None:
    """Return the variants an object's tag explains; None where it is one object with optional members."""
    doubtful = {key for key, node in objects.properties.items() if node.count < objects.count}
    if not doubtful or objects.limit is not None:
        return None
    found = [
        (settled, -(tag_rank(tag) or 0), tag)
        for tag, told in objects.tags.items()
        if told and (settled := _settled(tag, told, objects, doubtful)) >= SETTLED
    ]
    return _grouped(max(found)[2], objects, doubtful) if found else None


def _settled(
    tag: str, told: Mapping[str, tuple[int, Mapping[str, int]]], objects: Objects, doubtful: set[str]
) -> float:
    """Return which share of the doubts about keys is gone once the tag is known; 0 where not all had it."""
    if sum(count for count, _ in told.values()) != objects.count or objects.properties[tag].count != objects.count:
        return 0.0
    if len(told) < 2 or objects.count < REPEATS * len(told) or not all(map(_KIND.fullmatch, told)):
        return 0.0
    before = after = 0
    for key in doubtful:
        counts = [(keys.get(key, 0), count) for count, keys in told.values() if count > 1]
        present, all_ = sum(had for had, _ in counts), sum(count for _, count in counts)
        before += min(present, all_ - present)
        after += sum(min(had, count - had) for had, count in counts)
    return 1 - after / before if before else 0.0


def _grouped(tag: str, objects: Objects, doubtful: set[str]) -> Union | None:
    """Put values that bring the same keys together; keys that come with every variant are common to them."""
    groups: dict[frozenset[str], list[tuple[int, str, Mapping[str, int]]]] = {}
    for value, (count, keys) in (objects.tags[tag] or {}).items():
        brings = frozenset(key for key in doubtful if 2 * keys.get(key, 0) > count)
        groups.setdefault(brings, []).append((count, value, keys))
    if len(groups) < 2:
        return None
    variants = []
    for members in groups.values():
        members.sort(key=lambda member: (-member[0], member[1]))
        keys = {key: sum(had.get(key, 0) for _, _, had in members) for key in sorted(doubtful)}
        variants.append(
            Variant(
                tuple(value for _, value, _ in members),
                sum(count for count, _, _ in members),
                {key: had for key, had in keys.items() if had},
            )
        )
    common = frozenset(objects.properties) - {
        key for key in doubtful if any(key not in variant.keys for variant in variants)
    }
    ordered = sorted(variants, key=lambda variant: (-variant.count, variant.values))
    return Union(tag, common, tuple(ordered))
