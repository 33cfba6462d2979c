"""What an operation is believed to accept and return, and whether an exchange keeps to it.

A `Contract` is an OpenAPI document with its operations found: one that was learned (`discovery.openapi.document`),
or one that a vendor gave (`given`), so the same traffic can be held against either. A `Revision` is a contract at
one time. Two contracts that say the same have the same `digest`, however much evidence stands behind each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, cast
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from discovery.body import TREES, Body, Kind, form_tree, read_body
from discovery.exchange import Exchange, Json, Request, Response
from discovery.operation import Operation, Router
from discovery.pointer import escaped, pointer_of, unescaped
from discovery.traffic import media_of

Document = dict[str, Any]

MAX_DEPTH = 16
"""Levels of a body whose fields' types are told."""

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in an exchange that its contract does not allow.

    `where` is `path`, `request.query`, `request.body` or `response.STATUS`; `pointer` leads to the place.
    """

    where: str
    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A contract at one time. `number` counts from 1 per upstream; `at` is epoch seconds."""

    number: int
    at: float
    digest: str
    document: Document


@dataclass(frozen=True)
class Contract:
    """The operations of one upstream, each with its parameters, bodies and answers as JSON Schema."""

    document: Document

    @cached_property
    def operations(self) -> dict[Operation, Document]:
        found = {}
        for path, item in self.document.get("paths", {}).items():
            for method in METHODS:
                if isinstance(told := self.resolve(item).get(method), dict):
                    found[Operation(method.upper(), path)] = told
        return found

    @cached_property
    def router(self) -> Router:
        return Router(self.operations)

    @cached_property
    def digest(self) -> str:
        """What the contract says, as a digest: its evidence (`x-` members) and version aside."""
        plain = json.dumps(_plain(self.document.get("paths", {})), sort_keys=True)
        shared = json.dumps(_plain(self.document.get("components", {})), sort_keys=True)
        return blake2b(f"{plain}\n{shared}".encode(), digest_size=12).hexdigest()

    def operation_of(self, request: Request, prefix: str = "") -> Operation | None:
        """Return the operation `request` belongs to. `prefix` is the base URL's path, not part of templates."""
        path = request.path
        if prefix and path.startswith(prefix.encode()):
            path = path[len(prefix) :]
        return self.router.find(request.method, path)

    def request_types(self, request: Request, prefix: str = "") -> dict[str, frozenset[str]]:
        """Return the JSON types of the fields of a body of the operation that `request` belongs to, by pointer."""
        operation = self.operation_of(request, prefix)
        told = {} if operation is None else self.resolve(self.operations[operation].get("requestBody", {}))
        found: dict[str, frozenset[str]] = {}
        for content in told.get("content", {}).values():
            self._types(content.get("schema", {}), "", found, 0)
        return found

    def _types(self, schema: Document, at: str, found: dict[str, frozenset[str]], depth: int) -> None:
        schema = self.resolve(schema)
        kinds = schema.get("type")
        if at and kinds:
            found[at] = frozenset([kinds] if isinstance(kinds, str) else kinds)
        if depth < MAX_DEPTH:
            for variant in schema.get("oneOf", ()):
                self._types(variant, at, found, depth + 1)
            for name, inner in schema.get("properties", {}).items():
                self._types(inner, f"{at}/{escaped(name)}", found, depth + 1)
            if isinstance(items := schema.get("items"), dict):
                self._types(items, f"{at}/*", found, depth + 1)

    def check(self, exchange: Exchange, prefix: str = "") -> list[Violation]:
        """Return what in `exchange` the contract does not allow; nothing when all is as known."""
        operation = self.operation_of(exchange.request, prefix)
        if operation is None:
            known = exchange.request.path.decode("utf-8", "replace")
            return [Violation("path", "", f"no operation {exchange.request.method} {known} is known")]
        told = self.operations[operation]
        found = [*self._query(told, exchange.request), *self._request(told, exchange.request)]
        if isinstance(exchange.answer, Response):
            found += self._response(told, exchange.answer)
        return found

    def _query(self, told: Document, request: Request) -> Iterator[Violation]:
        sent = form_tree(request.query.decode("utf-8", "replace")) if request.query else {}
        declared = [self.resolve(parameter) for parameter in told.get("parameters", ())]
        known = {parameter.get("name") for parameter in declared if parameter.get("in") == "query"}
        for parameter in declared:
            if parameter.get("in") == "query" and parameter.get("required") and parameter["name"] not in sent:
                yield Violation("request.query", f"/{parameter['name']}", "is required, and missing")
        for name in sent.keys() - known:
            yield Violation("request.query", f"/{name}", "is not known")

    def _request(self, told: Document, request: Request) -> Iterator[Violation]:
        declared = self.resolve(told.get("requestBody", {}))
        body = read_body(request.headers, request.body)
        if body.kind is Kind.EMPTY:
            if declared.get("required"):
                yield Violation("request.body", "", "is required, and missing")
            return
        if body.kind not in (Kind.FORM, Kind.MULTIPART):  # their values are texts, whatever the schema says
            yield from self._body(declared, media_of(request.headers, body.kind), body, "request.body")

    def _response(self, told: Document, response: Response) -> Iterator[Violation]:
        where = f"response.{response.status}"
        table = told.get("responses", {})
        declared = next(
            (
                table[key]
                for key in (str(response.status), f"{response.status // 100}XX", "default")
                if key in table
            ),
            None,
        )
        if declared is None:
            yield Violation(where, "", f"status {response.status} is not known here")
            return
        body = read_body(response.headers, response.body)
        if body.kind is not Kind.EMPTY:
            media = media_of(response.headers, body.kind)
            yield from self._body(self.resolve(declared), media, body, where)

    def _body(self, declared: Document, media: str, body: Body, where: str) -> Iterator[Violation]:
        content = declared.get("content", {})
        held = content.get(media) or next(
            (inner for name, inner in content.items() if fits_media(name, media)), None
        )
        if held is None:
            if content:
                yield Violation(where, "", f"media type {media} is not known here")
            return
        if body.kind not in TREES or "schema" not in held:
            return
        for error in self._validator(held["schema"]).iter_errors(body.value):
            yield from _violations(error, where)

    def _validator(self, schema: Document) -> Draft202012Validator:
        shared = {word: self.document[word] for word in ("components", "definitions") if word in self.document}
        return Draft202012Validator({**shared, **schema})

    def resolve(self, node: Any) -> Document:
        """Follow references within the document; what leads nowhere says nothing."""
        for _ in range(20):
            if not (isinstance(node, dict) and isinstance(node.get("$ref"), str)):
                break
            path, node = node["$ref"].removeprefix("#/").split("/"), self.document
            for part in path:
                node = node.get(unescaped(part), {}) if isinstance(node, dict) else {}
        return node if isinstance(node, dict) else {}


def given(document: Mapping[str, Any]) -> Contract:
    """Return the contract a vendor's document (OpenAPI 2, 3.0 or 3.1) states, in the words of 3.1.

    Of Swagger 2, body and form parameters become request bodies and `definitions` stay; `nullable` becomes a null
    among the types; the document's base path stands before its templates.
    """
    told = cast(Document, _modern(dict(document)))
    prefix = _base_path(document).rstrip("/")
    paths = {}
    for path, item in (told.get("paths") or {}).items():
        if isinstance(item, dict):
            shared = item.get("parameters") or []
            paths[prefix + path] = {
                key: _operation(inner, shared, told) if key in METHODS and isinstance(inner, dict) else inner
                for key, inner in item.items()
            }
    return Contract({**told, "paths": paths})


def templates_of(contract: Contract) -> list[str]:
    """Return the contract's path templates: what overrides learned ones (`discovery.templates.draw`)."""
    return sorted({operation.template for operation in contract.operations})


def _base_path(document: Mapping[str, Any]) -> str:
    if isinstance(document.get("basePath"), str):
        return str(document["basePath"])
    servers = document.get("servers") or [{}]
    url = servers[0].get("url", "") if isinstance(servers[0], dict) else ""
    path = urlsplit(str(url)).path
    return "" if "{" in path else path


def _operation(told: Document, shared: list[Any], document: Document) -> Document:
    contract = Contract(document)
    parameters = [contract.resolve(parameter) for parameter in [*shared, *(told.get("parameters") or [])]]
    told = {**told, "parameters": [p for p in parameters if p.get("in") not in ("body", "formData")]}
    consumes = told.get("consumes") or document.get("consumes") or ["application/json"]
    produces = told.get("produces") or document.get("produces") or ["application/json"]
    for parameter in parameters:
        if parameter.get("in") == "body":
            content = {media: {"schema": parameter.get("schema", {})} for media in consumes}
            told["requestBody"] = {"content": content, "required": bool(parameter.get("required"))}
    fields = {
        p["name"]: {k: v for k, v in p.items() if k == "type"} for p in parameters if p.get("in") == "formData"
    }
    if fields:
        schema = {"type": "object", "properties": fields}
        told["requestBody"] = {"content": {media: {"schema": schema} for media in consumes}}
    responses = {}
    for status, response in (told.get("responses") or {}).items():
        resolved = contract.resolve(response)
        if "schema" in resolved:
            resolved = {**resolved, "content": {media: {"schema": resolved["schema"]} for media in produces}}
        responses[str(status)] = resolved
    return {**told, "responses": responses}


def _modern(node: Any) -> Any:
    """OpenAPI 3.0's words for a schema in those of JSON Schema 2020-12."""
    if isinstance(node, list):
        return [_modern(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    plain = {
        key: _modern(inner)
        for key, inner in node.items()
        if not (key in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(inner, bool))
    }
    if node.get("nullable") is True or node.get("x-nullable") is True:
        plain.pop("nullable", None)
        return {"anyOf": [plain, {"type": "null"}]}
    return plain


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _plain(inner) for key, inner in node.items() if not key.startswith("x-")}
    return [_plain(inner) for inner in node] if isinstance(node, list) else node


def fits_media(name: str, media: str) -> bool:
    """Tell whether a body of the type `media` is what a document has under `name`."""
    if name == "*/*" or name.partition(";")[0].strip().lower() == media:
        return True
    return "json" in name and "json" in media


def _violations(error: ValidationError, where: str) -> Iterator[Violation]:
    """The innermost errors: of alternatives, the one that came furthest."""
    if error.context:
        deepest = max(error.context, key=lambda inner: len(inner.absolute_path))
        if len(deepest.absolute_path) > len(error.absolute_path):
            yield from _violations(deepest, where)
            return
    pointer = pointer_of(error.absolute_path)
    yield Violation(where, pointer, _message(error))


def _message(error: ValidationError) -> str:
    """Say what is wrong without saying the value: it may be a secret."""
    wanted: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "type":
            return f"should be {_words(wanted)}, is {_kind(instance)}"
        case "required":
            missing = [name for name in wanted if name not in instance]
            return f"lacks {', '.join(missing)}"
        case "enum":
            return "is none of the known values"
        case "additionalProperties":
            return "has members that are not known"
        case _:
            return f"does not fit {error.validator}"


def _words(types: Any) -> str:
    return " or ".join(types) if isinstance(types, list) else str(types)


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
