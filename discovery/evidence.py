# ruff: noqa: PLR1730 (comparing and storing is faster here than calling min and max for each value)
"""What was seen of JSON-like values, as counts that merge: the ground every claim stands on.

A `Node` is one place in a body. It is GenSON's `SchemaNode` with strategies of our own that count: how often each
kind was there and when, which keys came how often, which form texts had, how long or large values were. Merging
is associative and commutative, and the order of what is folded never matters: folding shards apart and merging
them gives the same `state()` as folding all in one go. Everything that could differ by order is a union
with a fixed bound (beyond it: *many*, for good) or keeps what has the smallest digest.

No values are kept but small closed sets of short words, under names that are not about persons and no secrets
(`Strings.values`). Keys that are surely values (ids, addresses) are not kept either: what is below them
counts in `Objects.rest`, as do keys beyond `MAX_KEYS`.

**The fast path.** An object whose keys and kinds were seen before costs one look-up: its `Plan` is counted and
only texts, numbers, and what is nested are looked at. `settle()` adds the plans' counts to the nodes; every
reader does it first.

**Comparing two evidences** (for drift): fold what came before and after into two roots and walk them side by
side. At each node `kinds()` gives `Counted` strategies (`kind`, `count`, `first`, `last`); a key's presence is its
node's `count` out of the object's; `Strings.form`, `Strings.values`, `Numbers.low` and the rest compare directly.
`discovery.traffic` holds such roots per operation, so that a `state()` frozen a day ago and the evidence of the
last minutes are the two sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from genson.schema.node import SchemaNode
from genson.schema.strategies import Boolean, List, Null, Number, Object, String
from genson.schema.strategies.base import SchemaStrategy

from discovery.exchange import Json
from discovery.lexical import (
    form_of,
    has_form,
    is_identifying,
    is_personal,
    is_token,
    segment_kind,
    tag_rank,
)
from discovery.redaction import is_secret_name, is_secret_value

C = TypeVar("C", bound="Counted")

State: TypeAlias = "dict[str, Any]"
"""Evidence as plain JSON: what is stored, sent and compared."""

MAX_KEYS = 192
"""Names kept at one object: the widest real ones have some 120; beyond it, they are a map's keys."""

MAX_VALUES = 32
"""Values kept of a text that may be an enum. Larger closed sets exist, but claiming them helps nobody."""

MAX_TAGS = 24
"""Values of a tag whose variants are told apart."""

MAX_PLANS = 16
"""Shapes of one object known to the fast path; rebuilt when there are more, so this bounds memory only."""

MAX_ITEMS = 1000
"""Items of one array that are looked at: the first ones."""

WORD_BITS = 4096
"""Size of the filter of identifying words at one node: 300 words at 1 % error."""

DEPTH = 48
"""Levels of a body that are looked into; real ones stay below 20, and readers of evidence recurse."""

REST = "*"
"""The name of the node for all keys that are not kept; of texts there no value is."""


class Counted(SchemaStrategy):  # type: ignore[misc]
    """A strategy that counts. `first` and `last` are epoch seconds, infinite while unknown."""

    code: ClassVar[str]
    kind: ClassVar[str]
    _extra_keywords: ClassVar[State] = {}  # GenSON's, for keywords of schemas it is given: never here

    def __init__(self, node_class: Any) -> None:
        self.node_class = node_class
        self.count = 0
        self.first = math.inf
        self.last = -math.inf

    def saw(self, count: int, first: float, last: float) -> None:
        self.count += count
        self.first = min(self.first, first)
        self.last = max(self.last, last)

    def fold(self, value: Any, at: float) -> None:
        """Count one value and look at it. `at` is epoch seconds, or `nan` when unknown."""
        self.count += 1
        if at < self.first:  # never true of nan
            self.first = at
        if at > self.last:
            self.last = at
        self.observe(value, at)

    def observe(self, value: Any, at: float) -> None:
        """Look at a value that is counted elsewhere."""

    def add_object(self, obj: Any) -> None:
        self.fold(obj, math.nan)

    def merge(self, other: Any) -> None:
        self.saw(other.count, other.first, other.last)

    def settle(self) -> None:
        """Bring counts up to date with what the fast path has put aside."""

    def state(self) -> State:
        times = {} if self.last < 0 else {"f": int(self.first), "l": int(self.last)}
        return {"n": self.count, **times}

    def load(self, state: State) -> None:
        self.saw(state["n"], state.get("f", math.inf), state.get("l", -math.inf))


class Nulls(Counted, Null):  # type: ignore[misc]
    code, kind = "z", "null"


class Booleans(Counted, Boolean):  # type: ignore[misc]
    code, kind = "b", "boolean"


class Numbers(Counted, Number):  # type: ignore[misc]
    """`whole` says that no fraction was seen; GenSON widens integer to number."""

    code, kind = "i", "number"

    def __init__(self, node_class: Any) -> None:
        super().__init__(node_class)
        self._type = "integer"
        self.low = math.inf
        self.high = -math.inf

    @property
    def whole(self) -> bool:
        return bool(self._type == "integer")

    def observe(self, value: Any, at: float) -> None:
        if type(value) is float:
            self._type = "number"
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def merge(self, other: Any) -> None:
        super().merge(other)
        self._widen(other._type, other.low, other.high)

    def _widen(self, type: str, low: float, high: float) -> None:
        self._type = "number" if "number" in (self._type, type) else "integer"
        self.low, self.high = min(self.low, low), max(self.high, high)

    def state(self) -> State:
        return {**super().state(), "t": self._type, "r": [self.low, self.high]}

    def load(self, state: State) -> None:
        super().load(state)
        self._widen(state["t"], *state["r"])


class Strings(Counted, String):  # type: ignore[misc]
    """`values`: value -> count while they are few and harmless, None when many. `form`: what all had, `""`
    when they had none in common, None when nothing but empty texts was seen. `empty` counts those."""

    code, kind = "s", "string"

    def __init__(self, node_class: Any) -> None:
        super().__init__(node_class)
        name = node_class.name
        secret = is_secret_name(name)
        self.identifying = not secret and is_identifying(name)
        self.values: dict[str, int] | None = None if secret or name == REST or is_personal(name) else {}
        self.form: str | None = None
        self.empty = 0
        self.low = 1 << 60
        self.high = 0
        self.words: bytearray | None = None

    def observe(self, value: Any, at: float) -> None:
        values = self.values
        if values is not None:
            if value in values:
                values[value] += 1
                return
            if value:
                self._keep(value, 1)
        if not value:
            self.empty += 1
            return
        length = len(value)
        if length < self.low:
            self.low = length
        if length > self.high:
            self.high = length
        form = self.form
        if form is None:
            self.form = form_of(value)
        elif form and not has_form(value, form):
            self.form = ""
        if self.identifying and length <= 100 and (bits := marks_of(value)) is not None:
            if self.words is None:
                self.words = bytearray(WORD_BITS // 8)
            one, other = bits
            self.words[one >> 3] |= 1 << (one & 7)
            self.words[other >> 3] |= 1 << (other & 7)

    def _keep(self, value: str, count: int) -> None:
        if self.values is None:
            return
        if value not in self.values and (
            len(self.values) >= MAX_VALUES or not is_token(value) or is_secret_value(value)
        ):
            self.values = None
            return
        self.values[value] = self.values.get(value, 0) + count

    def merge(self, other: Any) -> None:
        super().merge(other)
        self._join(other.values, other.form, other.empty, other.low, other.high, other.words)

    def _join(
        self,
        values: Mapping[str, int] | None,
        form: str | None,
        empty: int,
        low: int,
        high: int,
        words: bytes | bytearray | None,
    ) -> None:
        if values is None:
            self.values = None
        for value, count in (values or {}).items():
            self._keep(value, count)
        self.form = form if self.form is None else self.form if form in (None, self.form) else ""
        self.empty += empty
        self.low, self.high = min(self.low, low), max(self.high, high)
        if words and self.identifying:
            mine = self.words or bytes(len(words))
            self.words = bytearray(a | b for a, b in zip(mine, words, strict=True))

    def state(self) -> State:
        values = sorted(self.values.items()) if self.values is not None else None
        words = self.words.hex() if self.words is not None else None
        return {**super().state(), "v": values, "w": [self.form, self.empty, self.low, self.high, words]}

    def load(self, state: State) -> None:
        super().load(state)
        form, empty, low, high, words = state["w"]
        values = dict(state["v"]) if state["v"] is not None else None
        self._join(values, form, empty, low, high, bytes.fromhex(words) if words else None)


class Arrays(Counted, List):  # type: ignore[misc]
    """All items count at one node; `low` and `high` are the lengths seen, `empty` counts arrays without items."""

    code, kind = "a", "array"

    def __init__(self, node_class: Any) -> None:
        super().__init__(node_class)
        self._items = node_class()
        self.low = 1 << 60
        self.high = 0
        self.empty = 0

    @property
    def items(self) -> Node:
        return cast(Node, self._items)

    def observe(self, value: Any, at: float) -> None:
        length = len(value)
        if length < self.low:
            self.low = length
        if length > self.high:
            self.high = length
        if not length:
            self.empty += 1
        if self._items.depth > DEPTH:
            return
        strategy_for = self._items.strategy_for
        for item in value if length <= MAX_ITEMS else value[:MAX_ITEMS]:
            strategy_for(item).fold(item, at)

    def merge(self, other: Any) -> None:
        super().merge(other)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.empty += other.empty
        self._items.merge(other._items)

    def settle(self) -> None:
        self._items.settle()

    def state(self) -> State:
        return {**super().state(), "r": [self.low, self.high, self.empty], "c": self._items.state()}

    def load(self, state: State) -> None:
        super().load(state)
        low, high, empty = state["r"]
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.empty += empty
        self._items.load(state["c"])


class Plan:
    """What to do with an object whose keys and kinds are known: count it, and look only where values differ."""

    __slots__ = ("counted", "first", "keys", "last", "looks", "pending", "tag", "tags")

    def __init__(self) -> None:
        self.counted: list[Counted] = []
        self.looks: list[tuple[str, Any]] = []
        self.keys: tuple[str, ...] = ()
        self.tag: str | None = None
        self.tags: dict[str, int] = {}
        self.pending = 0
        self.first = math.inf
        self.last = -math.inf


class Children(dict[str, "Node"]):
    """Nodes by key, made on demand, each knowing its name and depth."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def __missing__(self, name: str) -> Node:
        node = self[name] = Node(name, self.depth)
        return node


class Objects(Counted, Object):  # type: ignore[misc]
    """`properties` by name; `rest` is what stood under names that are not kept, one node for all.

    `tags`: tag key -> value -> [objects, {key: objects that had it}], or None when the tag has many values.
    """

    code, kind = "o", "object"

    def __init__(self, node_class: Any) -> None:
        super().__init__(node_class)
        self._properties = Children(node_class.depth + 1)
        self.rest: Node | None = None
        self.limit: bytes | None = None  # digests of names that are kept lie below, once there were too many
        self.tags: dict[str, dict[str, tuple[int, dict[str, int]]] | None] = {}
        self.plans: dict[Any, Plan] = {}
        self.once: set[int] = set()  # hashes of shapes seen lately for the first time

    @property
    def properties(self) -> Mapping[str, Node]:
        """By name; call `settle()` on the root first."""
        return self._properties

    def observe(self, value: Any, at: float) -> None:
        if self._properties.depth > DEPTH:
            return
        shape = (tuple(value), tuple(map(type, value.values())))
        plan = self.plans.get(shape)
        if plan is None:
            if (mark := hash(shape)) not in self.once:
                self._once(value, mark, at)
                return
            plan = self._plan(value, shape)
        plan.pending += 1
        if at < plan.first:
            plan.first = at
        if at > plan.last:
            plan.last = at
        if plan.tag is not None:
            tag = value[plan.tag]
            plan.tags[tag] = plan.tags.get(tag, 0) + 1
        for key, look in plan.looks:
            look(value[key], at)

    def _plan(self, value: Mapping[str, Json], shape: Any) -> Plan:
        if len(self.plans) >= MAX_PLANS:
            self._settle_plans()
            self.plans.clear()
        self._make_room()
        plan = Plan()
        kept = []
        for key, inner in value.items():
            name = self._name(key)
            if name is not None:
                kept.append(name)
            strategy = self._node(name).strategy_for(inner)
            plan.counted.append(strategy)
            if type(strategy).observe is not Counted.observe:
                plan.looks.append((key, strategy.observe))
        plan.keys = tuple(kept)
        plan.tag = _tag_among(kept, value)
        self.plans[shape] = plan
        return plan

    def _once(self, value: Mapping[str, Json], mark: int, at: float) -> None:
        """Count an object of a shape that is new: most new ones never come again, and a plan would be waste."""
        if len(self.once) >= 4 * MAX_PLANS:
            self.once.clear()
        self.once.add(mark)
        self._make_room()
        kept = []
        for key, inner in value.items():
            name = self._name(key)
            if name is not None:
                kept.append(name)
            self._node(name).strategy_for(inner).fold(inner, at)
        if (tag := _tag_among(kept, value)) is not None:
            self._tag(tag, str(value[tag]), 1, dict.fromkeys(kept, 1))

    def _make_room(self) -> None:
        if len(self._properties) > 2 * MAX_KEYS:
            self._trim()

    def _name(self, key: str) -> str | None:
        """The name under which `key` is kept; None: it is a value, or one name too many."""
        if not is_name(key) or (self.limit is not None and digest(key) >= self.limit):
            return None
        return key

    def _node(self, name: str | None) -> Node:
        if name is not None:
            return self._properties[name]
        if self.rest is None:
            self.rest = Node(REST, self._properties.depth)
        return self.rest

    def _trim(self) -> None:
        """Keep the names of the smallest digests: the same ones, in whatever order they came."""
        properties = self._properties
        if len(properties) <= MAX_KEYS and self.limit is None:
            return
        self._settle_plans()
        self.plans.clear()
        ranked = sorted(properties, key=digest)
        if len(ranked) > MAX_KEYS:
            mine = digest(ranked[MAX_KEYS])
            self.limit = mine if self.limit is None else min(self.limit, mine)
        for name in ranked:
            if self.limit is not None and digest(name) >= self.limit:
                self._node(None).merge(properties.pop(name))
        if self.limit is not None:
            self.tags.clear()  # a map, not variants

    def settle(self) -> None:
        self._settle_plans()
        for node in self._properties.values():
            node.settle()
        if self.rest is not None:
            self.rest.settle()
        self._trim()

    def _settle_plans(self) -> None:
        for plan in self.plans.values():
            count, plan.pending = plan.pending, 0
            if not count:
                continue
            for strategy in plan.counted:
                strategy.saw(count, plan.first, plan.last)
            if plan.tag is not None:
                for value, times in plan.tags.items():
                    self._tag(plan.tag, value, times, dict.fromkeys(plan.keys, times))
                plan.tags = {}

    def _tag(self, key: str, value: str, count: int, keys: Mapping[str, int]) -> None:
        told = self.tags.setdefault(key, {})
        if told is None or self.limit is not None:
            return
        if value not in told and (len(told) >= MAX_TAGS or not is_token(value) or is_secret_value(value)):
            self.tags[key] = None
            return
        before, counts = told.get(value, (0, {}))
        for name, times in keys.items():
            counts[name] = counts.get(name, 0) + times
        told[value] = (before + count, counts)

    def merge(self, other: Any) -> None:
        self.settle()
        other.settle()
        super().merge(other)
        self._join_names(other._properties, other.rest, other.limit)
        for key, told in other.tags.items():
            self._join_tags(key, told)
        self._trim()

    def _join_names(self, properties: Mapping[str, Node], rest: Node | None, limit: bytes | None) -> None:
        for name, node in properties.items():
            self._properties[name].merge(node)
        if rest is not None:
            self._node(None).merge(rest)
        if limit is not None:
            self.limit = limit if self.limit is None else min(self.limit, limit)

    def _join_tags(self, key: str, told: Any) -> None:
        if told is None:
            self.tags[key] = None
        for value, (count, keys) in (told or {}).items():
            self._tag(key, value, count, keys)

    def state(self) -> State:
        state = {
            **super().state(),
            "p": {name: self._properties[name].state() for name in sorted(self._properties)},
        }
        if self.rest is not None:
            state["c"] = self.rest.state()
        if self.limit is not None:
            state["k"] = self.limit.hex()
        if self.tags:
            state["t"] = {
                key: told and {v: [n, dict(sorted(keys.items()))] for v, (n, keys) in sorted(told.items())}
                for key, told in sorted(self.tags.items())
            }
        return state

    def load(self, state: State) -> None:
        super().load(state)
        rest = Node(REST, self._properties.depth).load(state["c"]) if "c" in state else None
        nodes = {name: Node(name, self._properties.depth).load(inner) for name, inner in state["p"].items()}
        self._join_names(nodes, rest, bytes.fromhex(state["k"]) if "k" in state else None)
        for key, told in state.get("t", {}).items():
            self._join_tags(key, told)
        self._trim()


def _tag_among(names: list[str], value: Mapping[str, Json]) -> str | None:
    """Return the name that most likely tells which variant an object is, of those with a text."""
    ranked = [
        (rank, name) for name in names if (rank := tag_rank(name)) is not None and isinstance(value[name], str)
    ]
    return min(ranked)[1] if ranked else None


class Node(SchemaNode):  # type: ignore[misc]
    """One place in a body. `name` is the key it stands under (an array's items bear the array's)."""

    STRATEGIES = (Nulls, Booleans, Numbers, Strings, Arrays, Objects)
    _BY_TYPE: ClassVar[dict[type, type[Counted]]] = {
        type(None): Nulls,
        bool: Booleans,
        int: Numbers,
        float: Numbers,
        str: Strings,
        list: Arrays,
        dict: Objects,
    }

    def __init__(self, name: str = "", depth: int = 0) -> None:
        super().__init__()
        self.name = name
        self.depth = depth

    def __call__(self) -> Node:
        """Make a node for what lies below: strategies take their node as GenSON's node class."""
        return Node(self.name, self.depth + 1)

    @classmethod
    def of(cls, *values: Json) -> Node:
        node = cls()
        for value in values:
            node.fold(value)
        return node

    def fold(self, value: Json, at: float = math.nan) -> None:
        """Count `value`. What is nested deeper than bodies are read (`discovery.body`) must not come here."""
        self.strategy_for(value).fold(value, at)

    def add_object(self, obj: Json) -> Node:
        self.fold(obj)
        return self

    def strategy_for(self, value: Json) -> Counted:
        return self._strategy(self._BY_TYPE[type(value)])

    def _strategy(self, wanted: type[Counted]) -> Counted:
        for active in self._active_strategies:
            if type(active) is wanted:
                return active
        made = wanted(self)
        self._active_strategies.append(made)
        return made

    def kinds(self) -> Iterator[Counted]:
        return iter(self._active_strategies)

    def get(self, wanted: type[C]) -> C | None:
        """Return what was seen of one kind: `node.get(Objects)`."""
        for active in self._active_strategies:
            if type(active) is wanted:
                return active
        return None

    @property
    def count(self) -> int:
        return sum(strategy.count for strategy in self._active_strategies)

    def merge(self, other: Node) -> None:
        for strategy in other._active_strategies:
            self._strategy(type(strategy)).merge(strategy)

    def settle(self) -> Node:
        for strategy in self._active_strategies:
            strategy.settle()
        return self

    def state(self) -> State:
        """Return all that is known here as plain JSON: equal evidence has equal state."""
        self.settle()
        ordered = sorted(self._active_strategies, key=lambda strategy: strategy.code)
        return {strategy.code: strategy.state() for strategy in ordered if strategy.count}

    def load(self, state: State) -> Node:
        """Add what `state()` told: loading into a fresh node restores it, into another one merges."""
        for wanted in self.STRATEGIES:
            if wanted.code in state:
                self._strategy(wanted).load(state[wanted.code])
        return self


@lru_cache(maxsize=16384)
def is_name(key: str) -> bool:
    """Tell whether an object's key is a name, not a value (an id, an address, a date, a long text)."""
    if len(key) > 80 or is_secret_value(key):
        return False
    kind = segment_kind(key)
    if kind == "int":
        return len(key) < 3
    return kind not in ("uuid", "hex", "date", "email", "opaque") and form_of(key) not in ("uri", "email")


@lru_cache(maxsize=16384)
def digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@lru_cache(maxsize=16384)
def marks_of(value: str) -> tuple[int, int] | None:
    """Return the bits of a value that may come again as a word of a path; None when its look alone tells."""
    return None if "://" in value or segment_kind(value) else word_bits(value)


@lru_cache(maxsize=16384)
def word_bits(word: str) -> tuple[int, int]:
    """Return where a word's two bits are in a node's filter."""
    raw = digest(word)
    return int.from_bytes(raw[:4], "big") % WORD_BITS, int.from_bytes(raw[4:], "big") % WORD_BITS
