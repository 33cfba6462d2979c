"""The form of `gimbal.toml`: every key, its type, its default and why. `config.schema.json` is made from it.

Durations are seconds or text such as "24h"; sizes are bytes or text such as "10 MiB".
A value is checked here on its own; what needs the world (secrets, addresses) is `settings.py`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.wire_head import TOKEN
from policies.rules import Assume, Stores

DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def seconds(value: object) -> float:
    """Return a duration in seconds: a number, or text such as "250ms", "60s", "1h30m", "30d"."""
    match value:
        case bool():
            pass
        case int() | float() if math.isfinite(value) and value >= 0:
            return float(value)
        case str():
            text = value.strip().lower()
            if re.fullmatch(r"\d+(\.\d+)?", text):
                return float(text)
            parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])", text)
            if parts and re.fullmatch(r"(\d+(\.\d+)?\s*(ms|[smhdw])\s*)+", text):
                return sum(float(number) * DURATIONS[unit] for number, unit in parts)
    raise ValueError('should be a duration: seconds, or text such as "250ms", "60s", "1m", "24h", "30d"')


def octets(value: object) -> int:
    """Return a size in bytes: a whole number, or text such as "64 KiB", "10MB"."""
    match value:
        case bool():
            pass
        case int() if value >= 0:
            return value
        case str() if found := re.fullmatch(r"(\d+)\s*([kmg]?i?b)?", value.strip().lower()):
            number, unit = found.groups()
            if (unit or "b") in SIZES:
                return int(number) * SIZES[unit or "b"]
    raise ValueError('should be a size: bytes, or text such as "64 KiB", "10 MB"')


def base_url(value: object) -> object:
    """Return an upstream's base URL without a closing slash; what it says wrong it says without a secret."""
    if not isinstance(value, str):
        return value
    if "@" in _web_address(value).netloc:
        raise ValueError('should hold no user or password; inject headers = { Authorization = "env:NAME" }')
    if "?" in value or "#" in value:
        raise ValueError("should hold no query and no fragment")
    return value.rstrip("/")


def receiver_url(value: object) -> object:
    """Return the URL notices are sent to, which may hold a query."""
    if isinstance(value, str) and ("@" in _web_address(value).netloc or "#" in value or not value.isascii()):
        raise ValueError("should hold no user, password or fragment, and be percent-encoded ASCII")
    return value


def _web_address(value: str) -> SplitResult:
    if re.search(r"[\x00-\x20\x7f\\]", value):
        raise ValueError("should hold no spaces, backslashes or control characters")
    try:
        url = urlsplit(value)
        port_is_sane = url.port != 0
    except ValueError:
        raise ValueError("should be a URL such as https://api.example.com/v2") from None
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_sane:
        raise ValueError("should be a URL such as https://api.example.com/v2 (http or https, with a host)")
    return url


def store_url(value: object) -> object:
    if isinstance(value, str) and not re.match(r"(rediss?|unix)://.|env:.|file:.", value):
        raise ValueError("should begin with redis://, rediss:// or unix:// (or be env:NAME, file:PATH)")
    return value


def operation_match(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"((\*|[A-Za-z]+) )?/\S*", value):
        raise ValueError('should be a method and a path, such as "POST /charges" or "* /items/{id}"')
    return value


def pointer(value: object) -> object:
    if isinstance(value, str) and value and not value.startswith("/"):
        raise ValueError('should be a JSON Pointer, such as "/data/0"')
    return value


def field_pointer(value: object) -> object:
    """Return a pointer to a single field. Pointers are keys here: each must name one."""
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError('should be a JSON Pointer to a field, such as "/currency"')
    return value


def upstream_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("an upstream's name is made of a-z 0-9 . _ - and starts with a letter or digit")
    return value


def host_name(value: object) -> object:
    """Return a host's name in lower case."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", value):
        raise ValueError('should be a name without scheme and port, such as "gimbal" or "gimbal.internal"')
    return value.lower()


def header_name(value: str) -> str:
    if not TOKEN.fullmatch(value):
        raise ValueError("is no header name (RFC 9110 5.1)")
    return value


def _text(pattern: str, examples: list[object]) -> dict[str, Any]:
    return {
        "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}],
        "examples": examples,
    }


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(_text(r"^\s*\d+(\.\d+)?\s*(ms|[smhdw])?", ["60s", "24h", 30])),
]
Size = Annotated[
    int,
    BeforeValidator(octets),
    WithJsonSchema(_text(r"^\s*\d+\s*([kKmMgG]?[iI]?[bB])?\s*$", ["10 MiB", 65536])),
]
HeaderMap = dict[Annotated[str, BeforeValidator(header_name)], str]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class WaitTable(Table):
    local: bool = True
    """Until the store has it on its own disk (WAITAOF)."""
    replicas: Annotated[int, Field(ge=0, le=16)] = 0
    """And so many of its replicas have it."""
    on: Literal["disk", "memory"] = "disk"
    """Where replicas have it: on their disks (WAITAOF), or in their memory (WAIT)."""
    timeout: Annotated[Duration, Field(gt=0, le=3)] = 1.0
    """How long the store has for that: below the lease of a call (5 s)."""


class StoreTable(Table):
    url: Annotated[str, BeforeValidator(store_url)] | None = None
    """`redis://`, `rediss://` or `unix://`; without it the embedded engine under `data`. May be `env:NAME`."""
    fsync: Literal["always", "everysec"] = "always"
    """When the embedded engine's journal reaches the disk: before a write is acknowledged, or a second later."""
    wait: WaitTable | None = None
    """What each transition of a call waits for beyond the store's word; without it nothing."""


class CallbackTable(Table):
    url: Annotated[str, BeforeValidator(receiver_url)]
    """Where it is told: a POST, signed."""
    secret: str
    """What it is signed with: `whsec_` and base64, or any text, as `env:NAME` or `file:PATH`. Never shown."""
    timeout: Duration = 15.0
    """Seconds its answer may take."""


class LimitsTable(Table):
    body: Size = 10 * 2**20
    """The largest body kept of one call. An identified unsafe call beyond it is refused (413)."""
    headers: Size = 64 * 2**10
    """The largest head of a request. 16 KiB is common in the wild; cookies and tokens grow."""


class RetentionTable(Table):
    idle: Duration = 30 * 86400.0
    """A workflow with nothing open ends by itself after so long without a call."""
    ended: Duration = 7 * 86400.0
    """How long the records of an ended workflow are kept."""
    keys: Duration = 86400.0
    """How long a call known by its Idempotency-Key alone is kept: the window vendors commonly give."""


class IdempotencyTable(Table):
    carrier: Literal["none", "header", "body", "query"] = "none"
    """Where the upstream looks for an idempotency key; `none`: it honours none."""
    name: str = "Idempotency-Key"
    """The header, body member or query parameter that carries it."""
    window: Duration = 86400.0
    """How long the upstream remembers a key."""
    stores: Stores = Stores.DEFINITE
    """`definite`: it replays every answer it ran to an end; `success`: only successes."""
    replayed: str = ""
    """The response header that marks a replay, if it sends one."""


class RateTable(Table):
    limit: Annotated[float, Field(gt=0)]
    """At most so many calls in `per`."""
    per: Duration
    """The span `limit` counts in."""
    burst: Annotated[int, Field(ge=1)] = 1
    """At most so many at once."""


class LookupTable(Table):
    get: Annotated[str, Field(pattern="^/")]
    """A path below `base_url`; `{body.ref}` is filled in from the request."""
    found: Annotated[str, BeforeValidator(pointer)]
    """JSON Pointer that exists in the answer when the call took effect."""
    absent_after: Duration | None = None
    """How long after the call absence starts to prove something; without it, it never does."""


class OperationTable(Table):
    match: Annotated[str, BeforeValidator(operation_match)]
    """A method (or `*`) and a path template: `POST /charges`, `* /items/{id}`. The most specific wins."""
    safe: bool | None = None
    """It asks for no effect: always sent, never a step."""
    replay: bool | None = None
    """A repeat is told the recorded reply."""
    idempotent: bool | None = None
    """Sending it twice has the effect of sending it once."""
    idempotency: IdempotencyTable | None = None
    """As for the upstream."""
    timeout: Duration | None = None
    """As for the upstream."""
    wait: Duration | None = None
    """As for the upstream."""
    deadline: Duration | None = None
    """As for the upstream."""
    poll: bool | None = None
    """`false`: a 202 is the end, even if it names a place to ask how the job stands."""
    lookup: LookupTable | None = None
    """How to find out whether a call in doubt took effect."""
    assume: Assume | None = None
    """What to take for true of a call in doubt that no evidence settles: `ask`, `applied`, `not-applied`."""
    fill: dict[Annotated[str, BeforeValidator(field_pointer)], Any] = Field(default_factory=dict)
    """What fields are filled with that it begins to require: a JSON Pointer into the body (or `/name` of a query
    parameter) and the value. Used only after it refused a request for lacking them."""
    partial: str | None = None
    """The dialect of a many-item answer, where it is not told from the answer itself."""


class UpstreamTable(Table):
    base_url: Annotated[str, BeforeValidator(base_url)]
    """Where it is. `/{upstream}/{path}` is forwarded to `base_url` + `/{path}`."""
    headers: HeaderMap = Field(default_factory=dict)
    """Injected into each request; secrets as `env:NAME`, `Bearer env:NAME` or `file:PATH`. Never shown."""
    timeout: Duration = 30.0
    """Seconds an answer may take."""
    connect_timeout: Duration = 5.0
    """Seconds a connection may take."""
    wait: Duration = 30.0
    """Patience when the caller states none."""
    deadline: Duration = 86400.0
    """How long a call may wait to be sent, from its first claim; after that it is given up. 0: for ever."""
    attempts: Annotated[int, Field(ge=1)] = 5
    """Sendings within a caller's patience; waits the upstream asks for are not counted."""
    idempotency: IdempotencyTable = Field(default_factory=IdempotencyTable)
    """How it takes an idempotency key; by default it is trusted with none."""
    rate: RateTable | None = None
    """At most so many calls in a time."""
    require_key: bool = False
    """Demand an identity (`Workflow-Id` or `Idempotency-Key`) for unsafe calls."""
    body_limit: Size | None = None
    """As `limits.body`, for this upstream."""
    transport: Literal["wire", "httpx"] = "wire"
    """`httpx` where HTTP/2, a proxy or client certificates are needed; it tells phases of faults less finely."""
    verify: bool | str = True
    """Check its certificate; a path names a CA bundle; `false` checks nothing."""
    meaningful_headers: list[Annotated[str, BeforeValidator(header_name)]] = Field(default_factory=list)
    """Request headers that make two requests different ones."""
    adapt: Literal["observe", "suggest", "auto"] | None = None
    """What to do when its contract drifts: watch, say what would help, or adapt."""
    operations: list[OperationTable] = Field(default_factory=list)
    """What holds for single operations."""


class File(Table):
    """Gimbal's configuration. No file is needed; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, title="gimbal.toml")

    listen: str = "127.0.0.1:8470"
    """Where to listen. An address that is not loopback needs `callers`."""
    hosts: list[Annotated[str, BeforeValidator(host_name)]] = Field(default_factory=list)
    """Names by which the console may be reached (a container's, a proxy's), beside `localhost` and addresses."""
    data: str | None = None
    """Where the embedded engine and the admin token live; default the platform's user data directory."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that serve."""
    store: StoreTable = Field(default_factory=StoreTable)
    """Where the ledger is kept."""
    callers: dict[str, str] = Field(default_factory=dict)
    """Who may call: a name and a token (`env:NAME`, `file:PATH`), told as `Proxy-Authorization: Bearer`."""
    limits: LimitsTable = Field(default_factory=LimitsTable)
    """What is too large."""
    retention: RetentionTable = Field(default_factory=RetentionTable)
    """How long records are kept."""
    callbacks: dict[str, CallbackTable] = Field(default_factory=dict)
    """Who is told how calls ended that nobody waited for, by workflow type; `default` is for all other types."""
    drift: dict[str, CallbackTable] = Field(default_factory=dict)
    """Who is told what changed at an upstream, by its name; `default` is for all other upstreams."""
    upstreams: dict[Annotated[str, BeforeValidator(upstream_name)], UpstreamTable] = Field(default_factory=dict)
    """The APIs that may be called, by name."""


def annotation_at(at: tuple[str | int, ...]) -> Any:
    """Return the type the form has at `at`, or None where it has nothing."""
    annotation: Any = File
    for part in at:
        annotation = bare(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            known = annotation.model_fields.get(str(part))
            annotation = known.annotation if known else None
        else:
            annotation = get_args(annotation)[-1] if get_origin(annotation) in (dict, list) else None
    return bare(annotation)


def is_table(at: tuple[str | int, ...]) -> bool:
    annotation = annotation_at(at)
    if get_origin(annotation) in (dict, list):
        return True
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def bare(annotation: Any) -> Any:
    """Return an annotation without `Annotated` and `| None`."""
    if hasattr(annotation, "__metadata__"):
        return bare(annotation.__origin__)
    rest = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) not in (dict, list) and len(rest) == 1:
        return bare(rest[0])
    return annotation
