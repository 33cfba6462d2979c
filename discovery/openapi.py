"""Evidence as an OpenAPI 3.1 document that reads like one a person wrote.

What `document()` writes always passes openapi-spec-validator: a fault there is a bug of ours, and `faults()` asks
for it. `discovery.schema` says what is claimed, `discovery.wording` and `discovery.components` what it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from discovery.body import Kind
from discovery.components import WRAPPERS, share, share_parameters
from discovery.evidence import Arrays, Node, Objects, Strings
from discovery.lexical import words_of
from discovery.paging import paging_of
from discovery.redaction import is_secret_name
from discovery.required import Things
from discovery.schema import Claims, Schema, presence, schema_of
from discovery.templates import Parameter, Template, draw
from discovery.traffic import Answers, Evidence, Exchanges
from discovery.wording import Seen, wording_of

_REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information", 204: "No Content",
    206: "Partial Content", 207: "Multi-Status", 301: "Moved Permanently", 302: "Found", 303: "See Other",
    304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request",
    401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 409: "Conflict", 410: "Gone", 412: "Precondition Failed", 413: "Content Too Large",
    415: "Unsupported Media Type", 422: "Unprocessable Content", 423: "Locked", 429: "Too Many Requests",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout",
}  # fmt: skip

_ABOUT = (
    "Learned from traffic, without a document of the vendor's: it tells what was seen, and nothing else. "
    "A required member was in all that was seen of its kind."
)

_METHODS = frozenset("GET PUT POST DELETE OPTIONS HEAD PATCH TRACE".split())  # noqa: SIM905

_JSON_LIKE = frozenset({Kind.JSON, Kind.LINES, Kind.SSE, Kind.XML})


def document(
    evidence: Evidence,
    title: str,
    servers: Sequence[str] = (),
    overrides: Sequence[str] = (),
    claims: Claims = Claims(),  # noqa: B008
    version: str = "1",
) -> dict[str, Any]:
    """Return all that is known of an upstream as an OpenAPI 3.1 document."""
    operations = [(template, template.methods()) for template in draw(evidence, overrides)]
    answers = Things(_answer_nodes(methods.values() for _, methods in operations))
    requests = Things(_request_nodes(methods.values() for _, methods in operations), sent=True)
    if _selective(methods.values() for _, methods in operations):
        claims = replace(claims, required=replace(claims.required, never=True))
    writer = _Writer(answers, requests, claims)
    paths: dict[str, Any] = {}
    for template, methods in operations:
        item = {
            method.lower(): writer.operation(template, method, exchanges)
            for method, exchanges in sorted(methods.items(), key=lambda told: (_ORDER.get(told[0], 9), told[0]))
            if method in _METHODS and is_operation(exchanges)
        }
        if item:
            paths[template.path] = item
    told: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _ABOUT},
        "servers": [{"url": url} for url in servers] or [{"url": "/"}],
        "paths": paths,
    }
    told["tags"] = [{"name": name} for name in dict.fromkeys(_tags(paths))]
    components = share(paths)
    parameters = share_parameters(paths)
    schemes = _schemes(evidence)
    shared = {"schemas": components, "parameters": parameters, "securitySchemes": schemes}
    if any(shared.values()):
        told["components"] = {kind: inner for kind, inner in shared.items() if inner}
    if schemes:
        told["security"] = [{name: []} for name in schemes]
    return told


def _tags(paths: Mapping[str, Any]) -> Iterable[str]:
    return (tag for item in paths.values() for operation in item.values() for tag in operation["tags"])


def faults(document: Mapping[str, Any]) -> list[str]:
    """Return what openapi-spec-validator finds wrong with `document`, each as `place: message`."""
    from openapi_spec_validator import OpenAPIV31SpecValidator  # takes half a second to import

    return [
        f"/{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in OpenAPIV31SpecValidator(document).iter_errors()
    ]


_SELECTIONS = frozenset(
    {"fields", "opt_fields", "$select", "select", "fieldmask", "field_mask", "_fields", "projection"}
)

_SELECTED = re.compile(r"fields\[\w+\]")


def _selective(all_methods: Iterable[Iterable[Exchanges]]) -> bool:
    """Tell whether callers choose which members they get (one in a hundred does): then none is required."""
    asked = chosen = 0
    for methods in all_methods:
        for exchanges in methods:
            asked += exchanges.accepted
            if objects := exchanges.query.settle().get(Objects):
                chosen += sum(node.count for name, node in objects.properties.items() if _selects(name.lower()))
    return chosen >= 3 and chosen * 100 >= asked


def _selects(name: str) -> bool:
    return name in _SELECTIONS or _SELECTED.fullmatch(name) is not None


def is_operation(exchanges: Exchanges) -> bool:
    """Tell whether the upstream has shown that it knows this operation: not only 404, 405 and failures."""
    return any(status < 500 and status not in (404, 405, 410, 501) for status in exchanges.answers)


def _answer_nodes(all_methods: Iterable[Iterable[Exchanges]]) -> Iterable[Node]:
    for methods in all_methods:
        for exchanges in methods:
            for status, answers in exchanges.answers.items():
                if status < 300:
                    yield from answers.bodies.values()


def _request_nodes(all_methods: Iterable[Iterable[Exchanges]]) -> Iterable[Node]:
    for methods in all_methods:
        for exchanges in methods:
            yield from exchanges.bodies.values()


class _Writer:
    def __init__(self, answers: Things, requests: Things, claims: Claims) -> None:
        self.answers = answers
        self.requests = requests
        self.claims = claims
        self.ids: set[str] = set()

    def operation(self, template: Template, method: str, exchanges: Exchanges) -> dict[str, Any]:
        wording = wording_of(method, template.path, Seen(201 in exchanges.answers, _lists(exchanges)))
        told: dict[str, Any] = {
            "tags": [wording.tag],
            "summary": wording.summary,
            "operationId": self._unique(wording.id, template),
        }
        parameters = [self._path(parameter) for parameter in template.parameters]
        parameters += self._query(exchanges)
        parameters += [
            _sent("header", name.title()) for name in sorted(exchanges.headers) if not _TELLS_OF_SDK.search(name)
        ]
        parameters += [_sent("cookie", name) for name in sorted(exchanges.cookies) if name]
        if parameters:
            told["parameters"] = parameters
        if body := self._request(exchanges):
            told["requestBody"] = body
        told["responses"] = {
            str(status): self._response(status, answers) for status, answers in sorted(exchanges.answers.items())
        }
        if self.claims.evidence:
            told["x-gimbal"] = {
                "n": exchanges.count,
                "accepted": exchanges.accepted,
                "refused": {str(status): count for status, count in sorted(exchanges.refused.items())},
                "parameters": {parameter.name: parameter.why for parameter in template.parameters},
            }
            if paging := paging_of(exchanges):
                told["x-gimbal"]["paging"] = asdict(paging)
        return told

    def _unique(self, name: str, template: Template) -> str:
        """Of two operations with one name, the later is told apart by its last parameter, or numbered."""
        if name in self.ids and template.parameters:
            name += "By" + "".join(map(str.title, words_of(template.parameters[-1].name)))
        unique, number = name, 2
        while unique in self.ids:
            unique, number = f"{name}{number}", number + 1
        self.ids.add(unique)
        return unique

    @staticmethod
    def _path(parameter: Parameter) -> dict[str, Any]:
        schema: Schema = {"type": "string"}
        if parameter.kinds == ("int",) and not parameter.words:
            schema = {"type": "integer"}
        elif parameter.kinds == ("uuid",) and not parameter.words:
            schema = {"type": "string", "format": "uuid"}
        return {"name": parameter.name, "in": "path", "required": True, "schema": schema}

    def _query(self, exchanges: Exchanges) -> list[dict[str, Any]]:
        objects = exchanges.query.settle().get(Objects)
        if objects is None:
            return []
        told = []
        for name, node in sorted(objects.properties.items()):
            if not name:
                continue
            parameter: dict[str, Any] = {"name": name, "in": "query", "schema": self._textual(node, name)}
            if node.count >= exchanges.accepted >= 2 * self.claims.required.sent:
                parameter["required"] = True
            if self.claims.evidence:
                parameter["x-gimbal"] = {"n": node.count, "presence": presence(node.count, exchanges.accepted)}
            told.append(parameter)
        return told

    def _textual(self, node: Node, name: str) -> Schema:
        """The schema of what was sent as text: numbers and flags by their looks."""
        schema = schema_of(node, None, self.claims)
        strings = node.get(Strings)
        if strings is not None and schema.get("type") == "string" and not strings.empty:
            typed = {"integer": "integer", "decimal": "number", "boolean": "boolean"}.get(strings.form or "")
            if typed:
                return {"type": typed}
        return schema

    def _request(self, exchanges: Exchanges) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for media in sorted(exchanges.media):
            kind = kind_of_media(media)
            node = exchanges.bodies.get(kind) if kind else None
            if node is None:
                content[media] = {}
            elif kind in _JSON_LIKE:
                content[media] = {"schema": schema_of(node, self.requests, self.claims)}
            else:
                content[media] = {"schema": self._form(node)}
        if not content:
            return {}
        always = sum(exchanges.media.values()) >= exchanges.accepted >= self.claims.required.sent
        return {"content": content} | ({"required": True} if always else {})

    def _form(self, node: Node) -> Schema:
        objects = node.settle().get(Objects)
        if objects is None:
            return schema_of(node, self.requests, self.claims)
        return {
            "type": "object",
            "properties": {
                name: self._textual(inner, name) for name, inner in sorted(objects.properties.items()) if name
            },
        }

    def _response(self, status: int, answers: Answers) -> dict[str, Any]:
        told: dict[str, Any] = {"description": _REASONS.get(status, f"Status {status}")}
        content: dict[str, Any] = {}
        for media in sorted(answers.media):
            kind = kind_of_media(media)
            node = answers.bodies.get(kind) if kind else None
            content[media] = {"schema": schema_of(node, self.answers, self.claims)} if node is not None else {}
        if content:
            told["content"] = content
        named = {name: {"schema": {"type": "string"}} for name in answers.headers if not is_secret_name(name)}
        if named:
            told["headers"] = dict(sorted(named.items()))
        return told


_ORDER = {method: rank for rank, method in enumerate(("GET", "POST", "PUT", "PATCH", "DELETE"))}
"""Methods in the order in which a person writes them."""


def _lists(exchanges: Exchanges) -> bool | None:
    """Tell whether what was asked for is a list: the answer itself, or what it wraps. None when nothing tells."""
    for status, answers in exchanges.answers.items():
        for kind, node in answers.bodies.items():
            if 200 <= status < 300 and kind is Kind.JSON:
                objects = node.settle().get(Objects)
                if objects is None:
                    return node.get(Arrays) is not None
                return any(
                    inner.get(Arrays) is not None and (name in WRAPPERS or len(objects.properties) < 4)
                    for name, inner in objects.properties.items()
                )
    return None


_TELLS_OF_SDK = re.compile(
    r"telemetry|user-agent|user-metadata|-client-(?:info|data|version)|sdk|stainless|x-fern"
)
"""Headers in which SDKs tell of themselves: no parameters a person would write down."""


def _sent(where: str, name: str) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": "string"}}


def kind_of_media(media: str) -> Kind | None:
    """Return how a body of a media type is read, or None: not at all."""
    if "json" in media and "ndjson" not in media:
        return Kind.JSON
    if "ndjson" in media:
        return Kind.LINES
    if "form-urlencoded" in media:
        return Kind.FORM
    if media.startswith("multipart/"):
        return Kind.MULTIPART
    if "xml" in media:
        return Kind.XML
    return Kind.SSE if media == "text/event-stream" else Kind.JSON if media == "text/plain" else None


def _schemes(evidence: Evidence) -> dict[str, Any]:
    schemes: dict[str, Any] = {}
    for told in sorted(evidence.auth):
        kind, _, name = told.partition(":")
        if kind == "http" and name in ("basic", "bearer", "digest"):
            schemes[name] = {"type": "http", "scheme": name}
        elif kind == "http":
            schemes[re.sub(r"\W", "_", name)] = {"type": "apiKey", "in": "header", "name": "Authorization"}
        else:
            schemes["key_" + re.sub(r"\W", "_", name)] = {"type": "apiKey", "in": kind, "name": name}
    return schemes
