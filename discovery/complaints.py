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
from functools import lru_cache

from discovery.body import read_json
from discovery.exchange import Json
from discovery.pointer import Path, unescaped

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


@lru_cache(4096)
def plain(name: str) -> str:
    """Return `name` without case and separators: `First-Name`, `first_name` and `firstName` are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def path_of(text: str) -> Path:
    """Split a pointer, a dotted, a bracketed or a JSONPath place into its parts."""
    text = text.strip().removeprefix("#").removeprefix("$").strip()
    if "/" in text and not re.search(r"\s|://", text):
        tokens = [unescaped(token) for token in text.split("/") if token]
        if len(tokens) == 1 and text[0] != "/":
            return path_of(tokens[0])
        return tuple(int(token) if token.isdecimal() else token for token in tokens if token[0] != "@")
    found = re.findall(r"[^.\[\]]+", text)
    return tuple(int(token) if token.isdecimal() else token.strip("'\"") for token in found[:40] if token.strip())


LOCATIONS = {
    "body": "body",
    "requestbody": "body",
    "payload": "body",
    "json": "body",
    "form": "body",
    "formdata": "body",
    "query": "query",
    "querystring": "query",
    "queryparam": "query",
    "queryparameter": "query",
    "url": "query",
    "path": "path",
    "pathparam": "path",
    "pathparameter": "path",
    "uri": "path",
    "params": "path",
    "header": "header",
    "headers": "header",
}

_TEXT = re.compile(
    r"mess|msg|desc|detail|text|title|reason|error|explan|summary|hint|fehler|meld|mens|erreur|fault|info|string"
    r"|cause|problem|nachricht|debug|advice|warn"
)
_CODE = re.compile(
    r"code|type|error|reason|status|issue|categ|keyword|rule|kind|constraint|tag|exception|fault|errno|result"
    r"|^ret$|^ack$"
    r"|^name$|^rc$|validation"
)
_NOT_CODE = re.compile(
    r"^(statuscode|httpstatus|httpstatuscode|httpcode|zipcode|postalcode|countrycode|contenttype)$"
)
_PLACE = (
    *("requestpointer", "pointer", "instancepath", "datapath", "jsonpath", "jsonpointer", "loc", "fieldpath"),
    *("path", "field", "fields", "fieldname", "fieldnames", "param", "parameter", "parametername", "property"),
    *(
        "propertyname",
        "propertypath",
        "attribute",
        "attributename",
        "argument",
        "argumentname",
        "element",
        "member",
    ),
    *("column", "campo", "champ", "feld", "apiname", "invalidfield", "target", "source", "contextpath", "context"),
    *(
        "in",
        "location",
        "key",
        "keys",
        "name",
        "missingproperty",
        "additionalproperty",
        "params",
        "parameters",
        "domain",
    ),
)
_MAPS_WORDS = (
    "errors error details detail fields params validation violations fielderrors formerrors modelstate invalid"
    " validationerrors errordetails messages message invalidparams validationmessages problems failures"
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
_ALLOWED = (
    "allowed",
    "allowedvalues",
    "values",
    "enum",
    "enumvalues",
    "options",
    "choices",
    "permitted",
    "validvalues",
)
_NOISE_WORDS = (
    "request requestid links meta metadata headers locations stack trace stacktrace input rejectedvalue debuginfo"
    " paymentintent charge data"
)
_NOISE = frozenset(_NOISE_WORDS.split())
_ENVELOPE = re.compile(
    r"^(code|message|msg|status|statuscode|type|title|detail|details|instance|requestid|traceid|timestamp"
    r"|success|ok"
    r"|errors?|errorcode|errormessage|errormessages|description|help|path|name|reason|data|params|documentationurl"
    r"|moreinfo|id|href|field|hint|result|fieldviolations|resource|index|domain|locations|extensions"
    r"|violations|issues"
    r"|causes|context|category|resultcode|response|fault|category|severity|text|rootcause|value|element"
    r"|version|kind|lang|type|issue|attribute|innererror|keys|source)$"
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
        if text[:1] in ("{", "[") and len(text) < 20_000:
            try:
                return self.visit(read_json(text.encode("utf-8", "replace")), prefix, "", codes, depth + 1)
            except (ValueError, RecursionError):
                pass
        token = _is_token(text)
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
            self.places(node, prefix, codes, depth)
            return
        index = known.get("index")
        if isinstance(index, int) and not isinstance(index, bool) and under:
            prefix = (*prefix, under, index)
        texts, own, children = _read_keys(node, known)
        paths, where, used = _places_of(known, bool(texts or own or {"messages", "errors"} & known.keys()))
        text = "\n".join(texts)[:MAX_TEXT]
        if text[:1] in ("{", "[") and not paths:
            self.sentence(text, prefix, tuple(own), depth)
        elif paths:
            paths = [path + _missing_below(known) for path in paths]
            allowed = _allowed_of(known)
            for path in paths:
                self.add(Complaint(prefix + path, text, (*own, *codes), allowed, where))
        elif text or own:
            self.add(Complaint(prefix or None, text, (*own, *codes), _allowed_of(known), where))
        here = prefix + paths[0] if paths else prefix
        for key, child in children:
            if plain(key) not in used:
                self.visit(child, here, key, tuple(own)[:3] if paths else (), depth + 1)

    def is_map(self, node: dict[str, Json], known: dict[str, Json], under: str, depth: int) -> bool:
        """Tell whether the keys of `node` are places in the request, not words of an envelope."""
        if not known or not all(_is_wrong(value) for value in node.values()):
            return False
        if plain(under) in _SURE_MAPS:
            return True
        if any(isinstance(known.get(name), str) for name in ("message", "msg", "description", "detail", "code")):
            return False
        listed = all(
            isinstance(value, list) and all(isinstance(one, str) for one in value) for value in node.values()
        )
        envelope = sum(1 for key in known if _ENVELOPE.match(key))
        if plain(under) in _MAPS:
            return listed or envelope * 2 <= len(known) or all(isinstance(v, dict) and v for v in node.values())
        return depth == 0 and envelope == 0 and all(isinstance(value, list) and value for value in node.values())

    def places(self, node: dict[str, Json], prefix: Path, codes: tuple[str, ...], depth: int) -> None:
        """Read a mapping of places to what is wrong there, to any depth, positions in lists included."""
        for key, value in node.items():
            if self.full(depth):
                return
            whole = plain(key) in _WHOLE or key in ("", "_errors", "__all__", "_schema", "_error")
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
        if _is_token(text):
            self.add(Complaint(here or None, "", (text, *codes)))
        else:
            self.add(Complaint(here or None, text[:MAX_TEXT], codes))


def _is_token(text: str) -> bool:
    """A code rather than a sentence: no spaces, ASCII, not long."""
    return len(text) <= 100 and text.isascii() and not re.search(r"\s", text)


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


def _tells(node: dict[str, Json]) -> bool:
    """Tell whether `node` is itself a complaint: it holds a sentence or a code under a word of an envelope."""
    return any(
        isinstance(value, (str, int)) and _ENVELOPE.match(plain(key)) and not isinstance(value, bool)
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
    if not _is_token(node[0]) or _is_token(node[1]) or not (name is None or isinstance(name, str)):
        return None
    return node[0], node[1], name or ""


def _read_keys(
    node: dict[str, Json], known: dict[str, Json]
) -> tuple[list[str], list[str], list[tuple[str, Json]]]:
    """Sort the members of an error object into sentences, codes and what to look into."""
    texts: list[str] = []
    codes: list[str] = []
    children: list[tuple[str, Json]] = []
    for key, value in node.items() if known else list(node.items())[:200]:
        name = plain(key)
        match value:
            case str():
                said = value.strip()
                if not said:
                    continue
                if _is_token(said):
                    if (_CODE.search(name) or _TEXT.search(name)) and not _NOT_CODE.match(name):
                        codes.append(said)
                elif _TEXT.search(name) or name in ("value", "title") or not said.isascii():
                    texts.append(said)
            case bool() | None | float():
                continue
            case int():
                if _CODE.search(name) and not _NOT_CODE.match(name):
                    codes.append(str(value))
            case _:
                if (
                    name not in _ALLOWED
                    and not (name == "params" and "instancepath" in known)
                    and (name not in _NOISE or (name == "data" and "errors" not in known))
                ):
                    children.append((key, value))
    return texts, codes, children


def _places_of(known: dict[str, Json], said: bool) -> tuple[list[Path], str, set[str]]:
    """The places an error object names, in which part of the request, and the keys that named them."""
    where = ""
    for name in ("location", "in", "source", "paramtype"):
        if isinstance(value := known.get(name), str) and plain(value) in LOCATIONS:
            where = LOCATIONS[plain(value)]
    if not known or not said:
        return [], where, set()
    for name in _PLACE:
        value = known.get(name)
        paths, place = _places_in(name, value, known)
        if paths:
            return paths, place or where, {name}
    return [], where, set()


def _places_in(name: str, value: Json, known: dict[str, Json]) -> tuple[list[Path], str]:
    match value:
        case str() if _names_a_place(name, value, known):
            return [path_of(value)], ""
        case list() if name in ("loc", "path", "instancepath", "fieldpath") or (
            name == "field" and all(isinstance(part, (str, int)) for part in value)
        ):
            return _listed_path(value, known)
        case list() if name in ("fields", "keys", "fieldnames", "parameters", "params", "propertyname"):
            return [path_of(one) for one in value if isinstance(one, str) and one and _is_name(one)], ""
        case dict() if name in ("source", "context", "params", "parameters"):
            for key, inner in value.items():
                label = plain(key)
                if isinstance(inner, str) and label in (
                    "pointer",
                    "parameter",
                    "header",
                    "query",
                    "path",
                    "field",
                ):
                    return [path_of(inner)] if inner else [], {"parameter": "query", "header": "header"}.get(
                        label, ""
                    )
                if label in (
                    "propertyname",
                    "missingproperty",
                    "additionalproperty",
                    "fieldname",
                    "field",
                    "property",
                ):
                    names = inner if isinstance(inner, list) else [inner]
                    base = known.get("instancepath", known.get("datapath", ""))
                    start = path_of(base) if isinstance(base, str) else ()
                    return [start + path_of(one) for one in names if isinstance(one, str) and one], ""
        case _:
            pass
    return [], ""


def _missing_below(known: dict[str, Json]) -> Path:
    """JSON Schema validators name the object, and apart from it the property it lacks or has too much."""
    params = known.get("params")
    if isinstance(params, dict) and "instancepath" in known:
        for name in ("missingProperty", "additionalProperty", "unevaluatedProperty"):
            if isinstance(value := params.get(name), str):
                return (value,)
    return ()


def _listed_path(value: list[Json], known: dict[str, Json]) -> tuple[list[Path], str]:
    """A path given as a list; that of a GraphQL error runs through the answer, not the request."""
    if not value or "locations" in known or ("extensions" in known and "field" not in known):
        return [], ""
    path = tuple(part for part in value if isinstance(part, (str, int)) and not isinstance(part, bool))
    if path and isinstance(path[0], str) and plain(path[0]) in LOCATIONS and len(path) > 1:
        return [path[1:]], LOCATIONS[plain(path[0])]
    return [path], ""


def _names_a_place(name: str, value: str, known: dict[str, Json]) -> bool:
    if not value.strip() or not _is_name(value):
        return False
    if name in ("in", "location", "source"):
        return plain(value) not in LOCATIONS and not value.startswith("http")
    if name == "path":
        return "timestamp" not in known and not value.startswith("http")
    if name in ("name", "key"):
        told = {
            "message",
            "msg",
            "description",
            "reason",
            "location",
            "issue",
            "error",
            "detail",
            "messages",
        } & known.keys()
        return bool(told) and not re.search(r"^[A-Z0-9_]{6,}$|Error$|Exception$", value) and "details" not in known
    if name == "domain":
        return False
    if name in ("target", "element", "context", "key"):
        return "://" not in value
    return True


def _is_name(text: str) -> bool:
    return len(text) <= 200 and text.count(" ") <= 4 and not text.endswith((".", "!"))


def _allowed_of(known: dict[str, Json]) -> tuple[Json, ...]:
    for holder in (known, *(known[name] for name in ("params", "context", "ctx", "meta") if name in known)):
        if isinstance(holder, dict):
            for key, value in holder.items():
                if (
                    plain(key) in _ALLOWED
                    and isinstance(value, list)
                    and value
                    and not isinstance(value[0], (dict, list))
                ):
                    return tuple(value[:100])
                if plain(key) == "expected" and isinstance(value, str) and "'" in value:
                    return tuple(re.findall(r"'([^']*)'", value))
    return ()


def texts_of(complaints: list[Complaint]) -> Iterator[str]:
    """Return the sentences alone."""
    return (complaint.text for complaint in complaints if complaint.text)
