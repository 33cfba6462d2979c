# ruff: noqa: SIM905 (a list of words reads best as words)
"""How a person would call an operation: an id, a summary and a tag from its method and path.

A path is read as resources: collections with or without an item (`/users/{user_id}` is one), single things, and at
its end perhaps an action (`/orders/{order_id}/cancel`, `/orders:search`). What is told depends on what was seen of
the operation, never on how often, so more traffic of the same kind changes no name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from discovery.lexical import is_plural, is_version, singular, split_segment, words_of

_ACTIONS = frozenset(
    "accept activate add apply approve archive assign attach authorize batch block bulk cancel capture "
    "check clear clone close collect complete confirm convert copy deactivate decline deny detach disable "
    "dismiss download enable execute export fetch finalize follow force import install invite join leave "
    "lock login logout mark merge move mute notify pause pay ping preview process promote provision "
    "publish query read rebuild reject release reload remove rename reopen replace request resend reset "
    "resolve restart restore resume retry revert revoke rotate run search send share sign simulate start "
    "stop submit subscribe suspend sync transfer trigger unarchive unassign unblock unfollow uninstall "
    "unlock unmute unpublish unsubscribe unsuspend update upgrade upload validate verify void watch "
    "withdraw".split()
)
"""Last words of a path that say what is done to what stands before them."""

_SILENT = frozenset({"api", "rest", "lifecycle", "actions", "action", "ws", "services"})
"""Words of a path that say nothing of what it is about."""

_CALL = re.compile(r"([a-z]\w*(?:\.\w+)*)\.(\w+)")
"""A remote procedure as a path: `conversations.setTopic`."""

_OF_MANY = frozenset({"list", "search"})

_SELF = frozenset({"me", "self", "current"})

_VERBS = {"GET": "get", "PUT": "replace", "PATCH": "update", "DELETE": "delete", "POST": "create"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an operation: it made something (201), it answered with a list."""

    creates: bool = False
    lists: bool | None = None


@dataclass(frozen=True, slots=True)
class Wording:
    """What an operation is called. `tag` is the resource it belongs to."""

    id: str
    summary: str
    tag: str


@dataclass(slots=True)
class _Resource:
    words: tuple[str, ...]
    item: bool = False
    which: tuple[str, ...] = ()  # of `/invoices/upcoming`: upcoming

    @property
    def plural(self) -> bool:
        return bool(self.words) and is_plural(self.words[-1])

    def one(self) -> tuple[str, ...]:
        return (*self.which, *self.words[:-1], singular(self.words[-1]))

    def many(self) -> tuple[str, ...]:
        return (*self.which, *self.words)


def wording_of(method: str, path: str, seen: Seen = Seen()) -> Wording:
    """Return what a person would call the operation: `GET /orders/{order_id}/items` -> listOrderItems."""
    resources, action = _read(path)
    if not resources:
        verb = action or (_VERBS.get(method, method.lower()),)
        return Wording(_camel((*verb, "root")), f"{_sentence(verb)} the root", "Root")
    if len(resources) == 1 and (call := _CALL.fullmatch(path.strip("/").rpartition("/")[2])):
        about, done = words_of(call[1]), words_of(call[2])
        return Wording(_camel((*about, *done)), f"{_sentence(about)}: {' '.join(done)}", _sentence(about))
    *above, last = resources
    verb, name, whole = _told(method, last, action, seen)
    owner = max((index for index, resource in enumerate(above) if resource.item), default=-1)
    around = [word for resource in above[owner + 1 :] for word in resource.one()]
    words = (*verb, *(word for resource in above for word in resource.one()), *name)
    said = _phrase((*around, *name), whole, verb[0] in _OF_MANY, above[owner].one() if owner >= 0 else ())
    return Wording(_camel(words), f"{_sentence(verb)} {said}", _sentence(resources[0].words))


def _told(
    method: str, last: _Resource, action: tuple[str, ...], seen: Seen
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return the verb, the name it is done to, and whether it is all of them or the only one (`the`, not `a`)."""
    many = not last.item and last.plural and (not last.which or bool(seen.lists))
    name = last.many() if many or not (last.item or last.which) else last.one()
    if action:
        return action, name, not last.item
    if method == "GET" and not last.item and (seen.lists or (many and seen.lists is None)):
        return ("list",), last.many(), True
    if method == "POST" and not last.item and not last.which:
        made = last.plural or seen.creates
        return ("create",) if made else ("post",), last.one() if made else last.many(), not made
    if method == "POST":
        return ("update",), last.one(), not last.item
    return (_VERBS.get(method, method.lower()),), name, not last.item


def _read(path: str) -> tuple[list[_Resource], tuple[str, ...]]:
    """Read a path as resources, from the outermost, and what is done to the last of them."""
    resources: list[_Resource] = []
    action: tuple[str, ...] = ()
    segments = [segment for segment in path.strip("/").split("/") if segment]
    for index, segment in enumerate(segments):
        last = index + 1 == len(segments)
        stem, suffix = split_segment(segment)
        words = words_of(stem)
        if suffix.startswith(":"):
            action = words_of(suffix)
        if stem.startswith("{"):
            if resources:
                resources[-1].item = True
        elif not words or is_version(stem) or (stem.lower() in _SILENT and not last):
            continue
        elif stem == "search" or (last and resources and words[0] in _ACTIONS):
            action = words
        elif last and resources and resources[-1].plural and not resources[-1].item and not is_plural(words[-1]):
            resources[-1].which = ("current",) if stem in _SELF else words
        else:
            resources.append(_Resource(words))
    return resources, action


def _phrase(name: Sequence[str], whole: bool, any_: bool, owner: Sequence[str]) -> str:
    said = " ".join(name)
    if owner:
        return f"{'the' if whole else _article(said)} {said} of {_article(owner[0])} {' '.join(owner)}"
    if whole:
        return said if any_ else f"the {said}"
    return f"{_article(said)} {said}"


def _article(words: str) -> str:
    if words[0] == "u":
        return "a" if words.startswith(("us", "uni", "ut", "ur", "uu", "uid")) else "an"
    return "an" if words[0] in "aeio" else "a"


def _sentence(words: Sequence[str]) -> str:
    said = " ".join(words)
    return said[:1].upper() + said[1:]


def _camel(words: Sequence[str]) -> str:
    return words[0] + "".join(word.title() for word in words[1:])
