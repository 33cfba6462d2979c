"""Who may look: the admin token as a Bearer, or a browser's session made from it; and by which host names.

What is guarded against, beside strangers: pages on the web that lead their own name here (DNS rebinding);
forms on other sites (a token in every form, `SameSite=Strict`); and upstreams' own pages, which a browser
sees under this very origin. Their scripts may ask for any address here, but what a script asks for says so
(`Sec-Fetch-Dest`), and a window that a script opened is cut off from it (`Cross-Origin-Opener-Policy`).
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from discovery.exchange import Header, Headers
from gateway.browsers import knows
from gateway.console.messages import ConsoleRequest, Stop
from gateway.tokens import bearer, same
from policies.reply import Problem

SESSION = 7 * 86400.0
"""Seconds a browser stays signed in: a working week. The link `gimbal serve` prints renews it."""

SECURITY: Headers = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
        b"frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
"""On every answer made here. The referrer stays on this origin (there, `Origin` is checked against it)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Someone with the admin token. `form` goes into a browser's forms; programs need none."""

    by: str
    form: str = field(default="", repr=False)


class Admission:
    """Checks requests against the admin token. `hosts` are names the console answers to, beside its own."""

    def __init__(self, admin: str, hosts: Collection[str], token_at: str) -> None:
        self._admin = admin
        self._hosts = frozenset(hosts)
        self._token_at = token_at
        self._cookie = f"gimbal-{self._derive('cookie')[:8]}"  # cookies know no ports: two gateways, two names

    def admit(self, request: ConsoleRequest, now: float) -> Admitted:
        """Return who asks. Raises `Stop` with 401 or 403."""
        self.check_host(request)
        if (token := bearer(request.header(b"authorization"))) is not None:
            if not same(self._admin, token):
                raise self.unauthorized("The bearer token is not the admin token.")
            return Admitted("the admin token")
        session = self._session(request, now)
        if session is None:
            raise self.unauthorized("It wants the admin token.")
        if request.header(b"sec-fetch-dest") not in (b"", b"document"):
            raise self.unauthorized("A script or frame asked with the browser's session; only pages may.")
        return Admitted("a person at the console", self._derive(f"form {session}"))

    def check_form(self, request: ConsoleRequest, who: Admitted) -> None:
        """Raise `Stop` unless a change asked for with a browser's session comes from a page of ours."""
        if not who.form:
            return
        origin = request.header(b"origin")
        foreign = origin not in (b"", b"null") and urlsplit(origin).netloc != request.header(b"host")
        if foreign or not same(who.form, request.form("form")):
            detail = "The form is not one of this console's, or it is older than the session. Load the page again."
            raise Stop(Problem("unauthorized", 403, "That form was not ours", detail))

    def sign_in(self, request: ConsoleRequest, token: str, now: float) -> Header:
        """Return the cookie of a new session. Raises `Stop` where `token` is not the admin's."""
        self.check_host(request)
        if not same(self._admin, token):
            raise self.unauthorized("That is not the admin token.")
        until = f"{now + SESSION:.0f}"
        value = f"{until}.{self._derive(f'session {until}')}"
        return b"set-cookie", self._set(value, int(SESSION))

    def sign_out(self) -> Header:
        return b"set-cookie", self._set("", 0)

    def check_host(self, request: ConsoleRequest) -> None:
        for name, value in request.headers:
            if name == b"host" and not knows(value.decode("latin-1"), self._hosts):
                shown = value[:80].decode("latin-1")
                detail = f"The Host header says {shown!r}, which is not a name this console answers to."
                raise Stop(Problem("unknown-host", 403, "This console does not answer to that name", detail))

    def _session(self, request: ConsoleRequest, now: float) -> str | None:
        for name, value in request.headers:
            if name != b"cookie":
                continue
            for crumb in value.decode("latin-1").split(";"):
                key, _, session = crumb.strip().partition("=")
                until, _, mac = session.partition(".")
                if key == self._cookie and same(self._derive(f"session {until}"), mac) and until.isdigit():
                    return session if now < float(until) else None
        return None

    def _set(self, value: str, seconds: int) -> bytes:
        return f"{self._cookie}={value}; Path=/-/; Max-Age={seconds}; HttpOnly; SameSite=Strict".encode()

    def _derive(self, purpose: str) -> str:
        return hmac.digest(self._admin.encode(), f"gimbal console {purpose}".encode(), "sha256").hex()[:40]

    def unauthorized(self, why: str) -> Stop:
        detail = (
            f"{why} Send Authorization: Bearer TOKEN, or open the link that gimbal serve printed at its start. "
            f"The token is kept in {self._token_at}."
        )
        problem = Problem("unauthorized", 401, "That needs the admin token", detail)
        return Stop(problem, (b"www-authenticate", b'Bearer realm="gimbal"'))
