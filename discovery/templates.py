# ruff: noqa: SIM905 (a list of words reads best as words)
"""Which path segments are values: templates drawn from an upstream's evidence, anew whenever it is asked.

Segments that are surely values come as `{kind}` from the trie. Of every word the odds are summed up from what is
known: its look, where it stands, whether answers echo it as somebody's name or id, whether it is one of the API's
own words (a key of its bodies, a constant elsewhere), under how many values of the parent it stands, and how alike
the answers and the paths below it are to its siblings'. Each reason is told (`Reason`), so that a person can see
*why*. The result depends on the evidence alone, not on its order; as evidence grows a template may split or merge,
and since counts are kept below templates, nothing is lost by either.

What a person has said (`overrides`) holds before all evidence.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from discovery.body import Kind
from discovery.evidence import Arrays, Node, Objects, Strings, digest, word_bits
from discovery.lexical import (
    is_identifying,
    is_plural,
    is_version,
    singular,
    split_segment,
    words_of,
)
from discovery.traffic import Evidence, Exchanges, Place

SIBLINGS = 40
"""Siblings a word is compared with: the ones of the smallest digests; more would not change a verdict."""

ALIKE = 0.6
"""Share of common keys or paths from which two places are called alike."""

_COMMON = frozenset(
    "api rest v1 v2 v3 search me self current all new default latest count batch bulk status health info "
    "config settings users user accounts account orders order items item products product customers customer "
    "payments invoices files file upload download login logout auth oauth oauth2 token tokens sessions "
    "session activate deactivate enable disable cancel confirm approve reject start stop restart retry "
    "refresh verify validate send publish archive restore import export members groups roles permissions "
    "teams projects tasks comments messages events webhooks hooks notifications tags labels keys reports "
    "metrics logs admin public private graphql query subscriptions subscription plans coupons refunds charges "
    "transfers balance lifecycle transactions addresses contacts companies deals tickets profile preferences "
    "avatar password email emails records zones domains servers volumes images networks snapshots actions "
    "metadata history stats statistics summary details children parent related recent popular trending attach "
    "detach merge lock unlock star follow followers following list get create update delete remove add set "
    "show edit by with id name system internal external types type versions version schema schemas meta "
    "templates template policies rules rule policy apps app clients client devices device features feature "
    "logs log jobs job runs run tests test check checks preview draft permission".split()
)
"""Words that are constants of so many APIs that one meeting is enough to believe it again."""


_CALL = re.compile(r"[a-z][a-z]+(?:\.[a-z][A-Za-z]{3,})+")


@dataclass(frozen=True, slots=True)
class Reason:
    """One piece of evidence for (`weight` > 0) or against a segment being a value."""

    weight: float
    why: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A variable segment: its index in the path, a name, the kinds of values seen, and why it is taken for one.

    `certain` is False while the verdict could still turn: the odds of its weakest word were below `SURE`.
    """

    index: int
    name: str
    kinds: tuple[str, ...]
    words: int
    why: str
    certain: bool


@dataclass(slots=True)
class Template:
    """A path template and the places its evidence lies in."""

    path: str
    parameters: tuple[Parameter, ...]
    places: list[Place]

    def methods(self) -> dict[str, Exchanges]:
        """Return the merged evidence of each method."""
        merged: dict[str, Exchanges] = {}
        for place in self.places:
            for method, exchanges in place.methods.items():
                merged.setdefault(method, Exchanges()).merge(exchanges)
        return merged


PRIOR = Reason(-1.0, "most words are constants")

THRESHOLD = 0.25
"""Odds from which a word is taken for a value: a word too few in a template is mended by more traffic."""

SURE = 1.0
"""Odds (natural logarithm, roughly) from which a verdict counts as certain."""


def draw(evidence: Evidence, overrides: Sequence[str] = ()) -> list[Template]:
    """Return the templates of all places where something was asked, in the order of their paths."""
    artist = _Artist(evidence, [tuple(path.strip("/").split("/")) for path in overrides])
    return sorted(artist.draw(), key=lambda template: template.path)


@dataclass(slots=True)
class _Look:
    """What a pool of places looks like from above: keys of answers by method, and words below."""

    answers: dict[str, frozenset[str]] = field(default_factory=dict)
    below: tuple[frozenset[str], frozenset[str], frozenset[str]] = (frozenset(), frozenset(), frozenset())
    methods: frozenset[str] = frozenset()


class _Artist:
    def __init__(self, evidence: Evidence, overrides: list[tuple[str, ...]]) -> None:
        self.evidence = evidence
        self.overrides = overrides
        self.looks: dict[tuple[int, ...], _Look] = {}

    def draw(self) -> Iterator[Template]:
        yield from self._below([self.evidence.root], (), ())

    @cached_property
    def vocabulary(self) -> Counter[str]:
        """Words of the API's own: parts of the keys of its bodies."""
        found: Counter[str] = Counter()
        for place in self.evidence.root.walk():
            for exchanges in place.methods.values():
                for node in _bodies(exchanges):
                    _keys(node, found, 4)
        return found

    @cached_property
    def identifying(self) -> list[bytearray]:
        """The filters of words under identifying names: which words are somebody's name or id."""
        found: list[bytearray] = []
        for place in self.evidence.root.walk():
            for exchanges in place.methods.values():
                for node in _bodies(exchanges):
                    _identifying(node, found)
        return found

    @cached_property
    def constants(self) -> Counter[str]:
        """How many different words each word stands below: a constant stands in many places."""
        found: Counter[str] = Counter()
        pairs = {
            (name, child)
            for place in self.evidence.root.walk()
            for name, inner in place.children.items()
            for child in inner.children
        }
        for _, child in pairs:
            found[child] += 1
        return found

    def _below(
        self, pool: list[Place], path: tuple[str, ...], parameters: tuple[Parameter, ...]
    ) -> Iterator[Template]:
        if any(place.methods for place in pool):
            yield Template("/" + "/".join(path), parameters, [place for place in pool if place.methods])
        groups: dict[str, list[Place]] = {}
        for place in pool:
            for name, child in place.children.items():
                groups.setdefault(name, []).append(child)
        if not groups:
            return
        variable = self._variable(pool, path, groups)
        for name in sorted(groups.keys() - variable.keys()):
            yield from self._below(groups[name], (*path, name), parameters)
        by_suffix: dict[str, list[str]] = {}
        for name in sorted(variable):
            by_suffix.setdefault(_suffix(name), []).append(name)
        for suffix, names in by_suffix.items():
            places = [place for name in names for place in groups[name]]
            parameter = self._parameter(path, parameters, names, {name: variable[name] for name in names}, places)
            segment = "{" + parameter.name + "}" + suffix
            yield from self._below(places, (*path, segment), (*parameters, parameter))

    def _variable(
        self, pool: list[Place], path: tuple[str, ...], groups: Mapping[str, list[Place]]
    ) -> dict[str, list[Reason]]:
        """Return the names in `groups` that are values, each with its reasons."""
        constants, forced = self._told(path)
        variable = {
            name: [Reason(9, f"looks like {name[1 : name.index('}')]}")] for name in groups if name[0] == "{"
        }
        words = [name for name in groups if name[0] != "{" and name not in constants]
        if forced:
            return variable | {name: [Reason(99, "a person said so")] for name in words}
        looks = {name: self._look(places) for name, places in groups.items()}
        peers = sorted(words, key=digest)[:SIBLINGS]
        odds = {
            name: self._reasons(
                name, pool, path, groups, looks, peers, [v for v in variable if _suffix(v) == _suffix(name)]
            )
            for name in words
        }
        chosen = {name: reasons for name, reasons in odds.items() if _sum(reasons) >= THRESHOLD}
        most = self._look([place for name in chosen | variable for place in groups[name]])
        for name in odds.keys() - chosen.keys():
            if len(chosen) >= 4 and (_alike(looks[name], most) or 0) >= ALIKE:
                share = len(chosen) / (1 + len(odds) - len(chosen))
                crowd = Reason(min(3.0, max(0.0, 0.7 * math.log2(share))), "joins many that are answered alike")
                odds[name].append(crowd)
        chosen = {name: reasons for name, reasons in odds.items() if _sum(reasons) >= THRESHOLD}
        return variable | chosen

    def _reasons(
        self,
        name: str,
        pool: list[Place],
        path: tuple[str, ...],
        groups: Mapping[str, list[Place]],
        looks: Mapping[str, _Look],
        peers: list[str],
        values: list[str],
    ) -> list[Reason]:
        reasons = [PRIOR, *self._by_look(name, path), *self._by_position(path)]
        places = groups[name]
        echoes: Counter[str] = Counter()
        for place in places:
            echoes.update(place.echoes)
        named = sorted(key for key in echoes if is_identifying(key))
        if named:
            reasons.append(
                Reason(3.5 if name.lower() not in _COMMON else 2.0, f"answers repeat it as {named[0]!r}")
            )
        elif self._names_something(name):
            reasons.append(
                Reason(0.5 if name.lower() in _COMMON else 2.0, "it is the name of something elsewhere")
            )
        spread = 0
        for place in places:
            spread |= place.spread
        below = max(len(places), spread.bit_count())
        if below > 1:
            reasons.append(Reason(-min(4.0, 0.5 + math.log2(below)), f"stands below {below} values"))
        elif self.constants[name] > 1 and not named:
            reasons.append(Reason(-0.7, "stands in other paths too"))
        mine = looks[name]
        like = [like for v in values if (like := _alike(mine, looks[v])) is not None]
        if like:
            best = max(like)
            reasons.append(
                Reason(2.5, "is answered like its siblings that are ids")
                if best >= ALIKE
                else Reason(-2.0 if best < 0.3 else 0, "is answered unlike its siblings that are ids")
            )
        similar = [peer for peer in peers if peer != name and (_alike(mine, looks[peer]) or 0) >= ALIKE]
        if similar:
            share = len(similar) / max(1, len(peers) - 1)
            weight = min(3.0, 1.1 * math.log2(1 + len(similar)) - 0.5) * (0.4 + 0.6 * share)
            reasons.append(Reason(weight, f"{len(similar)} siblings are answered alike"))
        if item := self._is_item(pool, mine):
            reasons.append(Reason(item, "is answered with an item of the collection above"))
        if mine.methods & {"DELETE", "PUT", "PATCH"}:
            reasons.append(Reason(0.4, "can be changed or deleted"))
        return reasons

    def _by_look(self, name: str, path: tuple[str, ...]) -> Iterator[Reason]:
        stem, suffix = split_segment(name)
        words = words_of(stem)
        if is_version(stem) and len(path) <= 1:
            yield Reason(-6, "names a version")
        if any(character.isdigit() for character in stem):
            yield Reason(1.5, "has digits")
        if any(character.isupper() for character in stem) and not stem[0].islower():
            yield Reason(1.2, "has capitals")
        if stem.lower() in _COMMON:
            yield Reason(-3, "is a common word of APIs")
        elif words and all(singular(word) in self._stems for word in words):
            yield Reason(-1.5, "is one of the API's own words")
        if words and is_plural(words[-1]) and stem.islower():
            yield Reason(-0.8, "is a plural")
        if suffix:
            yield Reason(-2, "has a verb" if suffix[0] == ":" else "has an extension")
        if _CALL.fullmatch(stem):
            yield Reason(-1.5, "is named like a remote procedure")
        elif "." in stem.strip("."):
            yield Reason(0.7, "has a dot")
        if len(stem) > 24:
            yield Reason(0.8, "is long")

    @cached_property
    def _stems(self) -> set[str]:
        return {singular(word) for word in self.vocabulary}

    def _by_position(self, path: tuple[str, ...]) -> Iterator[Reason]:
        if not path:
            yield Reason(-3, "is the first segment")
        elif is_version(path[-1]) or path[-1] in ("api", "rest"):
            yield Reason(-2.5, "follows the version")
        elif path[-1].startswith("{"):
            yield Reason(-2.0, "follows a value")
        elif is_plural(path[-1].lower()):
            yield Reason(0.8, f"follows the plural {path[-1]!r}")

    def _is_item(self, pool: list[Place], mine: _Look) -> float:
        """Weigh whether a GET here answers with one of the things a GET above lists."""
        above = self._look(pool).answers.get("GET")
        here = mine.answers.get("GET")
        if not above or not here:
            return 0.0
        listed = {key[2:] for key in above if key.startswith("[]")}
        single = {key for key in here if not key.startswith("[]")}
        if not listed or not single:
            return 0.0
        common = len(listed & single) / min(len(listed), len(single))
        return 2.5 if common >= ALIKE and len(single) > 1 else 0.0

    def _names_something(self, word: str) -> bool:
        (one, other), filters = word_bits(word), self.identifying
        return any(words[one >> 3] & 1 << (one & 7) and words[other >> 3] & 1 << (other & 7) for words in filters)

    def _look(self, places: Sequence[Place]) -> _Look:
        key = tuple(sorted(map(id, places)))
        if key not in self.looks:
            self.looks[key] = _look_of(places)
        return self.looks[key]

    def _told(self, path: tuple[str, ...]) -> tuple[set[str], str]:
        """What overrides say of the segment after `path`: words that are constants; the name of a parameter."""
        constants, named = set(), ""
        for override in self.overrides:
            if len(override) > len(path) and all(
                mine == theirs or (mine.startswith("{") and theirs.startswith("{"))
                for mine, theirs in zip(path, override, strict=False)
            ):
                following = override[len(path)]
                if following.startswith("{"):
                    named = following[1:-1]
                else:
                    constants.add(following)
        return constants, named

    def _parameter(
        self,
        path: tuple[str, ...],
        before: tuple[Parameter, ...],
        names: list[str],
        reasons: Mapping[str, list[Reason]],
        places: list[Place],
    ) -> Parameter:
        kinds = tuple(sorted({name[1 : name.index("}")] for name in names if name[0] == "{"}))
        words = [name for name in names if name[0] != "{"]
        weakest = min((_sum(reasons[name]) for name in words), default=9.0)
        told: Counter[str] = Counter()
        for given in reasons.values():
            for reason in given:
                if reason.weight > 0:
                    told[reason.why] += 1
        why = "; ".join(f"{text}" for text, _ in told.most_common(4))
        _, name = self._told(path)
        if not name:
            name = _name(path, kinds, words, places, self._camel)
        taken = {parameter.name for parameter in before}
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}{number}", number + 1
        return Parameter(len(path), unique, kinds or ("word",), len(words), why, bool(kinds) or weakest >= SURE)

    @cached_property
    def _camel(self) -> bool:
        keys: Counter[bool] = Counter()
        for place in self.evidence.root.walk():
            for exchanges in place.methods.values():
                for node in _bodies(exchanges):
                    for key in _top_keys(node):
                        if "_" in key:
                            keys[False] += 1
                        elif any(character.isupper() for character in key[1:]):
                            keys[True] += 1
        return keys[True] > keys[False]


def _sum(reasons: Iterable[Reason]) -> float:
    return sum(reason.weight for reason in reasons)


def _suffix(name: str) -> str:
    return name[name.index("}") + 1 :] if name[0] == "{" else split_segment(name)[1]


_UNCOUNTED = frozenset({"sms", "dns", "tls", "aws", "gas", "bus", "gps", "rss", "css", "ops"})
"""Words of three letters that end in an s, and are no plurals."""


def _name(
    path: tuple[str, ...], kinds: tuple[str, ...], words: list[str], places: list[Place], camel: bool
) -> str:
    """Return the name a person would choose: after the collection it picks from, or what answers call it."""
    above = [segment for segment in path if not segment.startswith("{") and not is_version(segment)]
    parts = [*words_of(split_segment(above[-1])[0])] if above else []
    parts = parts or ["item"]
    parts[-1] = (
        singular(parts[-1]) if len(parts[-1]) != 3 or parts[-1] in _UNCOUNTED else parts[-1].removesuffix("s")
    )
    echoes: Counter[str] = Counter()
    for place in places:
        echoes.update(place.echoes)
    if path and path[-1].startswith("{") and not echoes:
        parts.append("sub")
    if kinds and kinds[0] in ("date", "email", "domain") and not words:
        parts = [kinds[0]]
    elif kinds and set(kinds) <= {"int", "uuid", "hex", "opaque"}:
        parts.append("id")
    else:
        last = [*words_of(max(sorted(echoes), key=lambda key: echoes[key]) if echoes else "name")]
        if last[0] == parts[0]:
            parts = last
        else:
            parts.append(last[-1])
    return parts[0] + "".join(part.title() for part in parts[1:]) if camel else "_".join(parts)


def _bodies(exchanges: Exchanges) -> Iterator[Node]:
    for status, answers in exchanges.answers.items():
        if status < 300:
            for kind, node in answers.bodies.items():
                if kind in (Kind.JSON, Kind.XML):
                    yield node.settle()
    for kind, node in exchanges.bodies.items():
        if kind is not Kind.MULTIPART:
            yield node.settle()


def _keys(node: Node, found: Counter[str], depth: int) -> None:
    if depth == 0:
        return
    if objects := node.get(Objects):
        for key, inner in objects.properties.items():
            for word in words_of(key):
                found[word] += 1
            _keys(inner, found, depth - 1)
    if arrays := node.get(Arrays):
        _keys(arrays.items, found, depth)


def _top_keys(node: Node) -> Iterable[str]:
    if arrays := node.get(Arrays):
        return _top_keys(arrays.items)
    objects = node.get(Objects)
    return objects.properties.keys() if objects else ()


def _identifying(node: Node, found: list[bytearray]) -> None:
    if (strings := node.get(Strings)) and strings.words is not None:
        found.append(strings.words)
    if objects := node.get(Objects):
        for inner in objects.properties.values():
            _identifying(inner, found)
    if arrays := node.get(Arrays):
        _identifying(arrays.items, found)


def _look_of(places: Sequence[Place]) -> _Look:
    answers: dict[str, set[str]] = {}
    methods: set[str] = set()
    levels: list[set[str]] = [set(), set(), set()]
    layer = list(places)
    for place in places:
        for method, exchanges in place.methods.items():
            methods.add(method)
            for status, told in exchanges.answers.items():
                if status < 300:
                    keys = answers.setdefault(method, set())
                    for node in told.bodies.values():
                        keys |= _shape(node.settle())
                    if not told.bodies:
                        keys.add("-")
    for level in levels:
        level.update(_suffixed(name) for place in layer for name in place.children)
        layer = [child for place in layer for child in place.children.values()]
    return _Look(
        {method: frozenset(keys) for method, keys in answers.items()},
        (frozenset(levels[0]), frozenset(levels[1]), frozenset(levels[2])),
        frozenset(methods),
    )


def _suffixed(name: str) -> str:
    return "{}" + _suffix(name) if name[0] == "{" else name


def _shape(node: Node) -> set[str]:
    found: set[str] = set()
    if objects := node.get(Objects):
        for key, inner in objects.properties.items():
            found.add(key)
            if (arrays := inner.get(Arrays)) and (items := arrays.items.get(Objects)):
                found |= {"[]" + name for name in items.properties}
            elif nested := inner.get(Objects):
                found |= {f"{key}.{name}" for name in nested.properties}
    if arrays := node.get(Arrays):
        found.add("[]")
        if items := arrays.items.get(Objects):
            found |= {"[]" + name for name in items.properties}
    return found


def _common(mine: frozenset[str], theirs: frozenset[str]) -> float:
    smaller = min(len(mine), len(theirs))
    return len(mine & theirs) / (smaller if smaller > 3 else len(mine | theirs))


def _alike(one: _Look, other: _Look) -> float | None:
    """Return how alike two looks are, from 0 to 1; None when there is nothing to compare."""
    told: list[float] = []
    for method in one.answers.keys() & other.answers.keys():
        mine, theirs = one.answers[method], other.answers[method]
        if mine and theirs:
            told.append(_common(mine, theirs))
    for below, beside in zip(one.below, other.below, strict=True):
        mine, theirs = below - {"{}"}, beside - {"{}"}
        if mine and theirs:
            told.append(len(mine & theirs) / min(len(mine), len(theirs)))
            if told[-1] > 0:
                break
    return max(told) if told else None
