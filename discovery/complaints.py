"""What an error body complains of: places, codes and sentences, in whatever envelope they come.

One bounded walk over the tree of any error body. Keys are recognised by what they mean, not by whose they
are: a key with `mess`, `detail`, `reason` in it holds a sentence when the value reads like one, one with
`code`, `type`, `error` a code when it does not; `field`, `param`, `loc`, `pointer` .. hold a place. A mapping
under `errors` (or alone) whose keys are no words of an envelope maps places to what is wrong there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from discovery.body import read_json
from discovery.exchange import Json
from discovery.lexical import plain
from discovery.members import allowed_of, is_token, missing_below, places_of, read_keys
from discovery.pointer import Path, path_of

MAX_NODES = 1_000
"""Nodes looked at: 100 KB of errors in under 2 ms; who complains of more is read as far as that."""

MAX_COMPLAINTS = 40
MAX_DEPTH = 12
MAX_TEXT = 600
"""Characters of one sentence: real ones stay below 300, and patterns are searched in them."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing complained of. `path` is None when no place is given, () for the whole; `where` if it is said."""

    path: Path | None
    text: str
    codes: tuple[str, ...] = ()
    allowed: tuple[Json, ...] = ()
    where: str = ""


def complaints_of(value: Json) -> list[Complaint]:
    """Return what the tree or text of an error body complains of, outermost first, each place and text once."""
    walk = _Walk()
    walk.visit(value, (), "", (), 0)
    return list(dict.fromkeys(walk.found))


_MAPS_WORDS = (
    "errors error details detail fields params validation violations fielderrors formerrors modelstate invalid"
    " validationerrors errordetails errordetail messages message invalidparams validationmessages problems"
    " failures"
)
_MAPS = frozenset(_MAPS_WORDS.split())
_SURE_MAPS_WORDS = "fields params fielderrors formerrors modelstate validationerrors invalidparams"
_SURE_MAPS = frozenset(_SURE_MAPS_WORDS.split())
_WHOLE_WORDS = (
    "base error errors violations nonfielderrors all schema global general messages message detail "
    "errormessages formerrors self root"
    " request body"
)
_WHOLE = frozenset(_WHOLE_WORDS.split())
_WHOLE_END = re.compile(r"(?:errors?|violations|problems|issues)$")
"""A member of a mapping of places that lists complaints of the whole: `inputErrors`."""
_SPOKEN_WORDS = (
    "text summary hint explanation diagnostics errors error errormessages errormessage messages"
    " message details detail msg msgs reasons reason issues violations"
    " warnings description problems causes cause data results failures faults info"
)
_SPOKEN = frozenset(_SPOKEN_WORDS.split())
"""Members that hold an envelope's own sentences, listed or not: never a place in the request."""
_ENVELOPE = re.compile(
    r"^(code|message|msg|status|statuscode|type|title|detail|details|instance|requestid|traceid|timestamp"
    r"|success|ok|messages"
    r"|errors?|errorcode|errormessage|errormessages|description|help|path|name|reason|data|params|documentationurl"
    r"|moreinfo|id|href|field|hint|result|fieldviolations|resource|index|domain|locations|extensions"
    r"|violations|issues"
    r"|causes|context|category|resultcode|response|fault|category|severity|text|rootcause|value|element"
    r"|version|kind|lang|type|issue|attribute|innererror|keys|source"
    r"|translation|args|rule)$"
)


class _Walk:
    def __init__(self) -> None:
        self.found: list[Complaint] = []
        self.nodes = 0

    def full(self, depth: int) -> bool:
        self.nodes += 1
        return self.nodes > MAX_NODES or depth > MAX_DEPTH or len(self.found) >= MAX_COMPLAINTS

    def visit(self, node: Json, prefix: Path, under: str, codes: tuple[str, ...], depth: int) -> None:
        """Read one node; `under` is the key it stands under, `prefix` the place already known."""
        if self.full(depth):
            return
        match node:
            case str():
                self.sentence(node, prefix, codes, depth)
            case dict():
                self.mapping(node, prefix, under, codes, depth)
            case list() if triple := _triple(node):
                code, text, name = triple
                self.add(Complaint(prefix + path_of(name) if name else prefix or None, text, (code, *codes)))
            case list():
                for child in node[:MAX_NODES]:
                    if len(self.found) >= MAX_COMPLAINTS or self.nodes > MAX_NODES:
                        break
                    if isinstance(child, dict):
                        self.mapping(child, prefix, under, codes, depth + 1, listed=True)
                    else:
                        self.visit(child, prefix, under, codes, depth + 1)

    def add(self, complaint: Complaint) -> None:
        if complaint.path is not None or complaint.text or complaint.codes:
            self.found.append(complaint)

    def sentence(self, text: str, prefix: Path, codes: tuple[str, ...], depth: int) -> None:
        text = text.strip()
        if len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
            text = text[1:-1]
        if text[:1] in ("{", "[") and len(text) < 20_000:
            try:
                return self.visit(read_json(text.encode("utf-8", "replace")), prefix, "", codes, depth + 1)
            except (ValueError, RecursionError):
                pass
        token = is_token(text)
        said = codes if not token else (text, *codes)
        self.add(Complaint(prefix or None, "" if token else text[:MAX_TEXT], said))
        return None

    def mapping(
        self,
        node: dict[str, Json],
        prefix: Path,
        under: str,
        codes: tuple[str, ...],
        depth: int,
        listed: bool = False,
    ) -> None:
        if listed and self.full(depth):
            return
        if any(key[:1] == "@" for key in node) or any(isinstance(v, dict) and "#text" in v for v in node.values()):
            node = {
                key: _element_text(value) for key, value in node.items() if key[:1] != "@" or "." in str(value)
            }
        known = {plain(key): value for key, value in node.items()} if len(node) <= 60 else {}
        if not listed and self.is_map(node, known, under, depth):
            if plain(under) == "modelstate":  # of a parameter by its name: `order.lines[0].sku` is of the body
                node = {".".join(key.split(".")[1:]) or key: value for key, value in node.items()}
            self.places(node, prefix, codes, depth)
            return
        index = known.get("index")
        if isinstance(index, int) and not isinstance(index, bool) and under:
            prefix = (*prefix, under, index)
        texts, own, children = read_keys(node, known)
        if not texts and depth < 3:
            texts = [said for said in node.values() if isinstance(said, str) and _is_said(said)][:3]
        paths, where, used = places_of(known, bool(texts or own or {"messages", "errors"} & known.keys()))
        text = "\n".join(texts)[:MAX_TEXT]
        if text[:1] in ("{", "[") and not paths:
            self.sentence(text, prefix, tuple(own), depth)
        elif paths:
            paths = [path + missing_below(known) for path in paths]
            allowed = allowed_of(known)
            for path in paths:
                self.add(Complaint(_joined(prefix, path), text, (*own, *codes), allowed, where))
        elif text or own:
            self.add(Complaint(prefix or None, text, (*own, *codes), allowed_of(known), where))
        here = _joined(prefix, paths[0]) if paths else prefix
        for key, child in children:
            if plain(key) not in used:
                self.visit(child, here, key, tuple(own)[:3] if paths else (), depth + 1)

    def is_map(self, node: dict[str, Json], known: dict[str, Json], under: str, depth: int) -> bool:
        """Tell whether the keys of `node` are places in the request, not words of an envelope."""
        if not known or not all(_is_wrong(value) for value in node.values()):
            return False
        if plain(under) in _SURE_MAPS:
            return True
        if len(known) == 1 and _MAPS & known.keys() and not isinstance(next(iter(known.values())), str):
            return False
        if plain(under) in _MAPS and not _SPOKEN & known.keys() and all(map(_is_sentences, node.values())):
            return True  # {"errors": {"name": "may not be empty"}}
        if any(isinstance(known.get(name), str) for name in ("message", "msg", "description", "detail", "code")):
            return False
        if any(
            isinstance(value, str) and name.endswith(("message", "errorcode")) for name, value in known.items()
        ):
            return False
        listed = all(
            isinstance(value, list) and all(isinstance(one, str) for one in value) for value in node.values()
        )
        envelope = sum(1 for key in known if _ENVELOPE.match(key))
        if plain(under) in _MAPS:
            return listed or envelope * 2 <= len(known) or all(isinstance(v, dict) and v for v in node.values())
        if depth or not all(isinstance(value, list) and value and _nests(value) for value in node.values()):
            return False
        return envelope == 0 or (not _SPOKEN & known.keys() and all(map(_is_sentences, node.values())))

    def places(self, node: dict[str, Json], prefix: Path, codes: tuple[str, ...], depth: int) -> None:
        """Read a mapping of places to what is wrong there, to any depth, positions in lists included."""
        for key, value in node.items():
            if self.full(depth):
                return
            name = plain(key)
            if prefix and isinstance(value, str) and _RULE.fullmatch(key) and not is_token(value):
                self.place(prefix, value, (key.strip("_"), *codes))
                continue
            whole = (
                name in _WHOLE or _WHOLE_END.search(name) or key in ("", "_errors", "__all__", "_schema", "_error")
            )
            here = prefix if whole else (*prefix, *(path_of(key) or (key,)))
            match value:
                case str():
                    self.place(here, value, codes)
                case list():
                    for index, child in enumerate(value):
                        if isinstance(child, str):
                            self.place(here, child, codes)
                        elif isinstance(child, dict) and _tells(child):
                            self.visit(child, here if "index" not in child else prefix, key, codes, depth + 1)
                        elif isinstance(child, dict):
                            self.places(child, (*here, index), codes, depth + 1)
                case dict() if _tells(value):
                    self.visit(value, here, "", codes, depth + 1)
                case dict():
                    self.places(value, here, codes, depth + 1)
                case _:
                    pass

    def place(self, here: Path, text: str, codes: tuple[str, ...]) -> None:
        """Something said of one place: a sentence, or a bare code such as `error.path.missing`."""
        if is_token(text):
            self.add(Complaint(here or None, "", (text, *codes)))
        else:
            self.add(Complaint(here or None, text[:MAX_TEXT], codes))


def _joined(prefix: Path, path: Path) -> Path:
    """A place within a place, unless it says again what the prefix said."""
    return prefix if path and prefix[-len(path) :] == path else prefix + path


def _is_wrong(value: Json) -> bool:
    """Something that can be said to be wrong with a place: a sentence, a list of them, or the same further in."""
    match value:
        case str():
            return True
        case list():
            return all(isinstance(child, (str, dict)) for child in value)
        case dict():
            return bool(value)
        case _:
            return False


_SAYING = re.compile(r"message$|msg$|reason$|errorcode$")
_RULE = re.compile(
    r"_\w+|(?:is|not|no)[A-Z]\w*|required|unique|min|max|pattern|format|regexNotMatch"
    r"|stringLength\w*|emailAddress\w*"
)
"""Names of rules, under which a field's complaints may stand: `{"sku": {"_required": "..", "isEmpty": ".."}}`."""


def _says(value: list[Json]) -> bool:
    return all(isinstance(one, str) for one in value)


def _nests(listed: list[Json]) -> bool:
    """Whether the mappings of a list, if any, go on mapping places: they say nothing at once."""
    return not any(isinstance(held, str) for one in listed if isinstance(one, dict) for held in one.values())


def _is_said(text: str) -> bool:
    """A sentence under a name of no language known: it is among an error's members all the same."""
    return text.count(" ") >= 2 and len(text) < MAX_TEXT and "://" not in text


def _is_sentences(value: Json) -> bool:
    """A sentence, or a list of nothing else."""
    said = value if isinstance(value, list) else [value]
    return bool(said) and all(isinstance(one, str) and not is_token(one.strip()) for one in said)


def _tells(node: dict[str, Json]) -> bool:
    """Tell whether `node` is itself a complaint: it holds a sentence or a code under a word of an envelope."""
    return any(
        (isinstance(value, (str, int)) and not isinstance(value, bool) and _ENVELOPE.match(plain(key)))
        or (isinstance(value, str) and _SAYING.search(plain(key)))
        or (isinstance(value, list) and value and plain(key) in ("msg", "message", "messages") and _says(value))
        for key, value in node.items()
    )


def _element_text(value: Json) -> Json:
    """Return the text of an XML element that also has attributes, else `value` itself."""
    return value["#text"] if isinstance(value, dict) and "#text" in value else value


def _triple(node: list[Json]) -> tuple[str, str, str] | None:
    """A complaint written as a list: a code, a sentence, and a name or nothing."""
    if len(node) not in (2, 3) or not isinstance(node[0], str) or not isinstance(node[1], str):
        return None
    name = node[2] if len(node) == 3 else None
    if not is_token(node[0]) or is_token(node[1]) or not (name is None or isinstance(name, str)):
        return None
    return node[0], node[1], name or ""


def texts_of(complaints: list[Complaint]) -> Iterator[str]:
    """Return the sentences alone."""
    return (complaint.text for complaint in complaints if complaint.text)
