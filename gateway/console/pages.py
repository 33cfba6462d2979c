"""Facts -> pages: Jinja2 templates, rendered on the server, useful without script.

A template is given the facts that the JSON beside it tells, and what is around them: who looks, the time,
which form token goes into forms. Whatever an upstream or a workflow wrote is escaped, and its control
characters (also those that turn the direction of text) are made visible.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import gmtime, strftime
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from discovery.exchange import Json
from discovery.redaction import HIDDEN
from gateway.console import telling
from gateway.console.admission import Admitted
from gateway.console.messages import ConsoleRequest
from gateway.spans import ago, spell
from gateway.views import STANDING, Facts
from policies.claims import KEY_ONLY, TERMINAL, State

HTML = b"text/html; charset=utf-8"

HERE = Path(__file__).parent

CSS = (HERE / "static" / "console.css").read_bytes()
SHEET = f"console.{blake2b(CSS, digest_size=5).hexdigest()}.css"
STATIC = {SHEET: (b"text/css; charset=utf-8", CSS)}
"""Public files: name (with a digest of the content) -> media type and content."""

SHOWN = 64 * 1024
"""Characters of a body on a page: beyond, browsers get slow; a link shows the whole."""


@dataclass(frozen=True, slots=True)
class Around:
    """What is around the facts of a page. `who` None: nobody signed in."""

    request: ConsoleRequest
    who: Admitted | None
    now: float

    @property
    def form(self) -> str:
        return self.who.form if self.who else ""

    @property
    def here(self) -> str:
        return self.request.path.decode("ascii", "replace")

    @property
    def as_json(self) -> str:
        """The address of the same facts as JSON."""
        path = self.here.rstrip("/")
        query = self.request.query.decode("ascii", "replace")
        return f"{path}/index.json" if path == "/-" else f"{path}.json" + (f"?{query}" if query else "")

    @property
    def live(self) -> bool:
        return self.request.said("live") == "1"


def render(page: str, facts: Facts, around: Around) -> bytes:
    """Return the page called `page` of `facts`."""
    text = _environment().get_template(f"{page}.html").render(facts=facts, around=around, now=around.now)
    return text.encode("utf-8", "replace")


def workflow_path(type: str, id: str) -> str:
    """Return the address of a workflow's page. An id that ends in `.json` keeps its page."""
    return f"/-/workflows/{_segment(type)}/{_segment(id)}"


def upstream_path(name: str) -> str:
    """Return the address of an upstream's page."""
    return f"/-/upstreams/{_segment(name)}"


def body_text(body: Json) -> str:
    """Return a body for reading: a tree indented, text as it is."""
    return body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)


def _environment() -> Environment:
    global _made  # noqa: PLW0603  made at the first page: commands and health checks need none
    if _made is None:
        _made = _make()
    return _made


_made: Environment | None = None


def _make() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(
        sheet=f"/-/static/{SHEET}",
        tone=lambda word: telling.TONES.get(word, "quiet"),
        ended=[state.value for state in TERMINAL],
        standing=STANDING,
        states=[state.value for state in State],
        events=telling.events,
        lifeline=telling.lifeline,
        gantt=telling.gantt,
        workflow_path=workflow_path,
        call_path=lambda id: f"/-/calls/{_segment(id)}",
        upstream_path=upstream_path,
        operation_path=lambda name, of: f"/-/upstreams/{_segment(name)}/operation?of={quote(of, safe='')}",
        keyed=KEY_ONLY,
    )
    made.filters.update(ago=ago, span=spell, moment=_moment, body=body_text, short=_short, painted=painted)
    return made


def painted(text: str) -> Markup:
    """Return JSON text with its keys, texts and words marked for colour; other text as it is."""
    if text[:1] not in ("{", "["):
        return Markup(escape(_visible(text)))
    parts: list[str] = []
    end = 0
    for found in _TOKEN.finditer(text):
        kind = "redacted" if HIDDEN in found[0] else str(found.lastgroup)
        parts.append(
            f'{escape(_visible(text[end : found.start()]))}<i class="{kind}">{escape(_visible(found[0]))}</i>'
        )
        end = found.end()
    return Markup("".join(parts) + str(escape(_visible(text[end:]))))


def _short(text: str) -> tuple[str, int]:
    """Return the start of a long text, and how many characters it leaves out."""
    return text[:SHOWN], max(0, len(text) - SHOWN)


def _moment(at: float) -> str:
    """Return epoch seconds as ISO 8601 in UTC."""
    seconds, part = divmod(at, 1)
    try:
        return f"{strftime('%Y-%m-%d %H:%M:%S', gmtime(seconds))}.{int(part * 1000):03d} UTC"
    except (OverflowError, ValueError, OSError):
        return "at no known time"


def _visible(value: object) -> object:
    """Make control characters visible in text that goes onto a page (Jinja's `finalize`)."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", value)


def _segment(text: str) -> str:
    """Return text as one segment of a path. Its dots at the end of a name are escaped, for `.json` to be ours."""
    return re.sub(r"\.(?=json$)|^\.+$", lambda found: "%2E" * len(found[0]), quote(text, safe=":@,+"))


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=:))|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>\b(?:true|false|null)\b|-?\b\d[\d.eE+-]*)'
)
