"""The members of one error object: which hold sentences, which codes, and which name a place in the request.

Names are recognised by what they mean in any API's words; `discovery.complaints` walks from object to object.
"""

from __future__ import annotations

import re

from discovery.exchange import Json
from discovery.lexical import plain
from discovery.pointer import Path, path_of

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
    r"|cause|problem|nachricht|debug|advice|warn|exception|libelle|translation|komunikat|^err$"
)
_CODE = re.compile(
    r"code|type|error|reason|status|issue|categ|keyword|rule|kind|constraint|tag|exception|fault|errno|result"
    r"|^ret$|^ack$"
    r"|^name$|^rc$|validation|^kod$"
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
_PLACE_END = re.compile(
    r"(?:error|invalid|failed|missing|offending|wrong|bad)(?:path|field(?:name)?|pointer"
    r"|param(?:eter)?(?:name)?|attribute"
    r"|property|column|element|argument)s?$"
    r"|(?:field|property|attribute|param(?:eter)?|input|element|json|request)(?:path|name"
    r"|pointer)s?$|^expressions?$"
)
"""Other names of members that hold a place: `o:errorPath`, `invalidField`, `inputName`."""
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


def _holds_errors(value: Json) -> bool:
    return isinstance(value, dict) and bool(value.keys() & {"error", "errors"})


def is_token(text: str) -> bool:
    """A code rather than a sentence: no spaces, ASCII, not long."""
    return len(text) <= 100 and text.isascii() and not re.search(r"\s", text)


def read_keys(
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
                if is_token(said):
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
                    and (name not in _NOISE or (name == "data" and "errors" not in known) or _holds_errors(value))
                ):
                    children.append((key, value))
    return texts, codes, children


def places_of(known: dict[str, Json], said: bool) -> tuple[list[Path], str, set[str]]:
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
    for name, value in known.items():
        if name not in _PLACE and _PLACE_END.search(name):
            listed = [one for one in value if isinstance(one, str)] if isinstance(value, list) else [value]
            paths = [path_of(one) for one in listed if isinstance(one, str) and one and _is_name(one)]
            if paths:
                return paths, where, {name}
        elif (inner := _only_place(value)) is not None:
            return [inner], where, {name}
    return [], where, set()


def _only_place(value: Json) -> Path | None:
    """A place wrapped in mappings of nothing else: `{"inputPath": {"fieldPath": "title"}}`."""
    for _ in range(3):
        if not isinstance(value, dict) or len(value) != 1:
            return None
        name, value = next(iter(value.items()))
        if isinstance(value, str):
            sure = plain(name) in ("pointer", "fieldpath", "jsonpath", "field", "parameter", "property")
            return path_of(value) if sure and value and _is_name(value) else None
    return None


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


def missing_below(known: dict[str, Json]) -> Path:
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


def allowed_of(known: dict[str, Json]) -> tuple[Json, ...]:
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
