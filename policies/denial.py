"""Does a body deny the success its status claims? Told by the few members that say so, without a walk.

A denial is structural: `ok: false`, a non-empty `error`, a code that is not the one for success, a fault in an
envelope. Words in data deny nothing: a job that failed, a list of errors, a coupon's `code` are what was asked
for. `denial()` looks at the root and, where the root is only an envelope, one level in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from discovery.exchange import Json
from discovery.lexical import plain
from policies.signs import Sign, sign_of_code

MAX_MEMBERS = 500
"""Members of a mapping that are looked at: one of more holds data by key."""

ENVELOPE = 4
"""Members of a root that is looked into: `{"Response": {..}}`, `{"x_response": {..}, "sign": ".."}`."""

_FLAGS = frozenset(
    {
        "ok",
        "success",
        "succeeded",
        "successful",
        "issuccess",
        "issuccessful",
        "sucesso",
        "exito",
        "erfolg",
        "succes",
        "successo",
        "esito",
        "issucceed",
    }
)
_ERRORS = frozenset(
    {
        "error",
        "errors",
        "fault",
        "exception",
        "errormessages",
        "errormessage",
        "errormsg",
        "usererrors",
        "fehler",
        "erro",
        "erros",
        "erreur",
        "erreurs",
        "errore",
        "errori",
        "errores",
        "errorlist",
        "errordetails",
        "validationerrors",
    }
)
_CODES = frozenset(
    {
        "errcode",
        "errorcode",
        "errno",
        "errornumber",
        "ret",
        "retcode",
        "returncode",
        "resultcode",
        "responsecode",
        "rc",
        "code",
        "status",
        "statuscode",
        "ack",
        "result",
        "state",
        "type",
        "statut",
        "estado",
        "stato",
        "resultado",
        "codigo",
        "codice",
        "coderetour",
        "codeerreur",
        "codigoerror",
        "codigoerro",
        "codigoretorno",
        "fehlercode",
        "codiceerrore",
        "errornum",
        "replycode",
    }
)
_OWN_ERROR_CODE_WORDS = (
    "errcode errorcode errno errornumber errornum ret retcode returncode coderetour codeerreur"
    " codigoerror codigoerro"
    " codigoretorno fehlercode codiceerrore replycode"
)
_OWN_ERROR_CODES = frozenset(_OWN_ERROR_CODE_WORDS.split())
_BLUNT = _FLAGS | _ERRORS | _OWN_ERROR_CODES
_SIGNALS = _FLAGS | _ERRORS | _CODES
_FINE = re.compile(
    r"^(0+|ok|okay|success\w*|succeed\w*|true|1|200|201|202|204|none|null|no_?error|approved|accepted"
    r"|completed?|done|yes|y|active|i0+1?)$",
    re.I,
)
_FAILED = re.compile(
    r"^(errors?|fail(ed|ure|s)?|false|ko|nok|no|n|invalid|refused|denied|rejected|exception|fault|fehler|erro"
    r"|err|unsuccess\w*|declined|error\..*|erreur|errore|malformed|not_?auth\w*|échec|fallo|fallido"
    r"|falha|fehlgeschlagen)$",
    re.I,
)
_SAYS = re.compile(
    r"(?:msg|message|messages|desc|description|libelle|mensaje|messaggio|errortext|replytext|statusdetail)$"
)
_WELL = re.compile(r"success|complet|^ok\b|成功|erfolgreich|con [ée]xito|réussi|sucesso|正常|정상", re.I)
_SPEAKS = frozenset(
    {
        "message",
        "msg",
        "errmsg",
        "errormsg",
        "errormessage",
        "description",
        "detail",
        "details",
        "error",
        "errors",
        "statusdescription",
        "mensagem",
        "mensaje",
        "meldung",
        "text",
        "title",
        "submsg",
        "reason",
        "refusalreason",
        "messages",
        "errorcode",
        "code",
    }
)
IDENTITY = frozenset({"id", "_id", "uid", "uuid", "guid", "href", "self"})


_quiet: set[str] = set()
"""Keys seen before that tell nothing: a set, so that a mapping of nothing else is passed over in one step."""

_telling: dict[str, str] = {}
"""Keys seen before that may tell something, and their plain form."""

REMEMBERED = 20_000
"""Keys in each of them; longer ones than 50 characters are not remembered."""


def is_quiet(node: dict[str, Json]) -> bool:
    """Tell whether no member of `node` is of those that may overrule a status."""
    return node.keys() <= _quiet or not telling(node)


def suspects(nodes: Iterable[Json]) -> list[dict[str, Json]]:
    """Return the mappings among `nodes` that are not made of members seen before that tell nothing.

    One of a single member is always one: its name may only say what was done, and what it holds how that went.
    """
    quiet = _quiet
    return [node for node in nodes if isinstance(node, dict) and (len(node) == 1 or not node.keys() <= quiet)]


def telling(node: dict[str, Json]) -> dict[str, Json]:
    """Return the members of `node` that may overrule a status, by the plain form of their names."""
    found: dict[str, Json] = {}
    for key, value in node.items() if len(node) <= MAX_MEMBERS else islice(node.items(), MAX_MEMBERS):
        if key in _quiet:
            continue
        if name := _telling.get(key):
            found[name] = value
            continue
        name = plain(key)
        if _TELLS.search(name):
            found[name] = value
            if len(key) < 50 and len(_telling) < REMEMBERED:
                _telling[key] = name
        elif len(key) < 50:
            if len(_quiet) > REMEMBERED:
                _quiet.clear()
            _quiet.add(key)
    return found


_TELLS = re.compile(
    r"^(?:ok|succe\w*|issuccess\w*|sucesso|exito|erfolg|fault|exception|rc|code|status\w*|ack"
    r"|result|state|type|fehler|erro"
    r"|ret|retcode|returncode|resultcode|responsecode|httpstatus\w*|outcome|data|json|response\w*"
    r"|messages|envelope|body)$"
    r"|err(?:or|no|code|eur)|fail|reject|nprocess|notprocess"
    r"|^(?:statut|estado|stato|resultado|esito|erro|erros|codigo|codice|coderetour|codigoretorno)$"
    r"|^(?:s|sub|item|reply|error)code$"
    r"|exception(?:report)?s?$"
)


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a body denies success: the member that does, what it holds, and how sure that is."""

    member: str
    shown: str
    confidence: float


def denial(value: Json, *, reading: bool, target: bytes = b"") -> Denial | None:
    """Return how `value` denies success, or None. `reading`: a safe request for what is at `target`."""
    if not isinstance(value, dict):
        return None
    last_word = plain(target.rpartition(b"/")[2].decode("latin-1")) if reading else ""
    found = _denied(value, reading, last_word)
    if found is None and len(value) <= ENVELOPE:
        for key, inner in value.items():
            if isinstance(inner, dict) and (found := _enveloped(key, inner, reading, last_word)):
                return found
    return found


def _enveloped(key: str, inner: dict[str, Json], reading: bool, last_word: str) -> Denial | None:
    """The member of an envelope: its own word for the outcome, or (SOAP) a body that is a fault."""
    name = plain(key)
    if name == "envelope":
        body = inner.get("Body")
        fault = body.get("Fault") if isinstance(body, dict) else None
        if fault is not None:
            return Denial("Fault", shown(fault), 1.0)
        if isinstance(body, dict):
            for inner_key, answer in body.items():
                if isinstance(answer, dict) and (found := _denied(answer, reading, last_word)):
                    return Denial(f"{inner_key}/{found.member}", found.shown, 0.6)
        return None
    if name in ("data", "params", "meta") and not (inner.keys() & {"errors"}):
        return None
    if found := _denied(inner, reading, last_word):
        return Denial(f"{key}/{found.member}", found.shown, min(found.confidence, 0.9))
    return None


def _denied(value: dict[str, Json], reading: bool, last_word: str) -> Denial | None:
    if (
        len(value) > 60
        or value.keys() <= _quiet
        or not any(_may_deny(name, held) for name, held in telling(value).items())
    ):
        return None
    names = {plain(key): key for key in value}
    signals = _SIGNALS & names.keys()
    if not signals:
        return None
    resource = "jsonrpc" not in names and any(
        value[names[name]] not in (None, "", 0) for name in IDENTITY & names.keys()
    )
    affirmed = False
    for name in signals & _FLAGS:
        verdict = _flag(value[names[name]], names.keys())
        if verdict is False:
            return Denial(names[name], shown(value[names[name]]), 1.0)
        affirmed = affirmed or bool(verdict)
    for name in sorted(signals & _ERRORS):
        held = value[names[name]]
        if _is_error(name, held) and not affirmed and not (name.rstrip("s") in last_word and reading):
            if resource and (not _is_error_object(held) or (reading and _is_failed_resource(value, names))):
                continue
            return Denial(names[name], shown(held), 0.95)
    if affirmed:
        return None
    for name in sorted(signals & _CODES):
        found = _code(name, names[name], value, names, resource)
        if found and not (reading and found.confidence <= 0.6 and _PASSING.match(found.shown)):
            return found
    return None


def _may_deny(name: str, held: Json) -> bool:
    """Pass over, at little cost, what is fine on its face: nothing held, a plain word in a status."""
    if held is None or held is True or held == "":
        return False
    if isinstance(held, str) and name not in _BLUNT:
        return name == "code" or not held.isalpha() or (_FAILED.match(held) or _PASSING.match(held)) is not None
    return True


def _flag(held: Json, names: object) -> bool | None:
    """What a flag such as `ok` says; a number is a count as often as a flag."""
    match held:
        case bool():
            return held
        case str():
            return (
                False
                if _FAILED.match(held.strip()) or held.strip() == "0"
                else True
                if _FINE.match(held)
                else None
            )
        case 0:
            return False if any(name in _SPEAKS for name in names) else None  # type: ignore[attr-defined]
        case _:
            return None


def _is_error(name: str, held: Json) -> bool:
    match held:
        case None | False | 0 | "" | "0":
            return False
        case str():
            return not _FINE.match(held.strip())
        case dict():
            return bool(held) and any(child not in (None, "", [], {}, 0, False, "0") for child in held.values())
        case list():
            return any(child not in (None, "", [], {}) for child in held)
        case int():
            return name not in ("errors",) and held != 0
        case _:
            return True


def _is_failed_resource(value: dict[str, Json], names: dict[str, str]) -> bool:
    """A job that was asked for, with its own state beside its error."""
    return any(isinstance(value[names[name]], str) for name in ("status", "state", "phase") if name in names)


def _is_error_object(held: Json) -> bool:
    """An `error` with a code and a message, as an envelope has; a resource's own `error` is mostly a sentence."""
    return (
        isinstance(held, dict)
        and len({plain(key) for key in held} & {"code", "message", "msg", "type", "status", "errors"}) >= 2
    )


_PASSING = re.compile(r"^(?:maintenance|unavailable|overloaded|throttled|rate_?limited|time_?out)$", re.I)
_TELLING_SIGNS = frozenset({Sign.RATE, Sign.BUSY, Sign.AUTH, Sign.ABSENT, Sign.INTERNAL})


def _tells(name: str, word: str, value: dict[str, Json]) -> bool:
    """A code or status that is itself the name of a failure, beside a message and no data."""
    telling = name == "code" and sign_of_code(word) in _TELLING_SIGNS and _is_bare(value)
    return telling or (name in ("code", "status") and _PASSING.match(word) is not None)


def _is_bare(value: dict[str, Json]) -> bool:
    """Nothing but words: what was asked for would be a mapping, a list, or more of them."""
    return len(value) <= 8 and not any(isinstance(held, (dict, list)) and held for held in value.values())


def _is_numbered_complaint(held: dict[str, Json]) -> bool:
    """A message beside a number that is none of success: `{"message": "..", "value": 19}`."""
    numbers = [one for one in held.values() if isinstance(one, int) and not isinstance(one, bool)]
    texts = [one for one in held.values() if isinstance(one, str) and " " in one]
    return (
        bool(numbers and texts)
        and not any(n in (0, 1) or 200 <= n < 300 for n in numbers)
        and not _WELL.search(texts[0])
    )


def _code(name: str, key: str, value: dict[str, Json], names: dict[str, str], resource: bool) -> Denial | None:
    """What a code or status word says: alone, little; it takes a word of failure or a message beside it."""
    held = value[key]
    speaks = [
        value[names[other]] for other in names if other != name and (other in _SPEAKS or _SAYS.search(other))
    ]
    said = " ".join(text for text in speaks if isinstance(text, str))
    if isinstance(held, dict) and name in ("status", "result") and len(held) <= 6:
        found = _denied(held, False, "")
        if found is None and not resource and len(value) <= 2 and _is_numbered_complaint(held):
            return Denial(key, shown(held), 0.6)
        return Denial(f"{key}/{found.member}", found.shown, 0.8) if found else None
    if isinstance(held, bool):
        return Denial(key, "false", 0.9) if held is False and (said or name == "status") and not resource else None
    if isinstance(held, str):
        word = held.strip()
        if name == "type":
            return Denial(key, word, 0.8) if _FAILED.match(word) and speaks and not resource else None
        if _FAILED.match(word):
            return (
                Denial(key, word, 0.85)
                if not resource and (speaks or len(value) <= 3 or name not in ("state", "result"))
                else None
            )
        number = int(word) if re.fullmatch(r"-?\d{1,9}", word) else None
        if number is None and not resource and said and _tells(name, word, value):
            return Denial(key, word, 0.6)
        if number is None:
            own = name in _OWN_ERROR_CODES and word and not _FINE.match(word)
            return Denial(key, word, 0.8) if own and not resource else None
        held = number
    if (
        name in ("statuscode", "httpstatus", "httpstatuscode")
        and isinstance(held, int)
        and 400 <= held < 600
        and said
    ):
        return Denial(key, str(held), 0.8)
    if not isinstance(held, int) or resource:
        return None
    if _WELL.search(said) or held == 0 or 200 <= held < 300:
        return None
    if name in _OWN_ERROR_CODES or held >= 400 or held < 0:
        return (
            Denial(key, str(held), 0.8)
            if ((said or name in _OWN_ERROR_CODES) and name not in ("ret",)) or said
            else None
        )
    if said and name in ("code", "status", "resultcode", "responsecode", "statuscode", "rc"):
        empty = all(
            value[k] in (None, "", [], {}) for n, k in names.items() if n in ("data", "result", "body", "content")
        )
        return Denial(key, str(held), 0.6) if empty else None
    return None


def shown(held: Json) -> str:
    text = str(held)
    return text if len(text) <= 80 else text[:77] + "..."
