"""The description of the API (OpenAPI 3.1), made from the route table and the same types that check each request."""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from local_api import problems
from local_api.context import API_VERSION
from local_api.schemas import Request
from local_api.table import Auth, RouteSpec

_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_REF = "#/components/schemas/{name}"
DESCRIPTION = """\
The LAN API of a store hub. Ids are UUIDv7, made by the caller before the first attempt; `PUT` creates, the same again
gives the same answer, other content under the same id is 409. Refusals are problem documents (RFC 9457) with a stable
`code`, a `remedy` for people and `retry` for programs: `never`, `same_request`, `after_enquiry`, `new_id`. Every
answer carries `Hub-Line: line:seq:start`; tills send back the last they saw, and count their tries in `Attempt`.
Clients ignore fields they do not know; the hub refuses fields it does not know.\
"""


def _types(rows: Sequence[RouteSpec]) -> list[Any]:
    found: dict[str, Any] = {"Problem": problems.Problem}
    for row in rows:
        for kind in (row.body, row.query, row.reply):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                found[kind.__name__] = kind
    return [found[name] for name in sorted(found)]


def _parameters(row: RouteSpec, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(row.path)
    ]
    if row.query is not None:
        schema = schemas[row.query.__name__]
        required = set(schema.get("required", ()))
        shown += [
            {"name": name, "in": "query", "required": name in required, "schema": shape}
            for name, shape in schema["properties"].items()
        ]
    if "PUT" in row.method and row.permission is not None and row.tag in {"payments", "orders"}:
        shown.append({"name": "Attempt", "in": "header", "schema": {"type": "integer", "minimum": 1}})
        shown.append({"name": "Hub-Line", "in": "header", "schema": {"type": "string"}})
    if row.reply is bytes:
        shown.append({"name": "Range", "in": "header", "schema": {"type": "string", "examples": ["bytes=1048576-"]}})
    if row.tag == "payments" and not row.path.endswith("receipt"):
        shown.append({"name": "Prefer", "in": "header", "schema": {"type": "string", "examples": ["wait=25"]}})
    return shown


def _answers(row: RouteSpec) -> dict[str, Any]:
    line = {"Hub-Line": {"schema": {"type": "string"}}}
    if isinstance(row.reply, type) and issubclass(row.reply, msgspec.Struct):
        content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REF.format(name=row.reply.__name__)}}}
    elif row.reply is bytes:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    elif row.reply is dict:
        content = {"application/json": {"schema": {"type": "object"}}}
    elif row.media:
        content = {row.media: {"schema": {"type": "string"}}}
    elif row.stream:
        content = {"text/event-stream": {"schema": {"type": "string"}}}
    else:
        content = {}
    content |= {media: {"schema": {"type": "string"}} for media in row.also}
    shown: dict[str, Any] = {}
    if row.created:
        shown["201"] = {"description": "Created, on disk", "content": content, "headers": line}
    if row.waits:
        shown["202"] = {"description": "Somebody has yet to act: the same again", "content": content, "headers": line}
    if not row.created or row.method == "PUT":
        if row.reply is None and not row.stream and row.method in {"DELETE", "POST"}:
            shown["204"] = {"description": "Done", "headers": line}
        else:
            shown["200"] = {"description": "As it is now", "content": content, "headers": line}
    if row.reply is bytes:
        shown["206"] = {"description": "The range that was asked for", "content": content, "headers": line}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    shown["default"] = {"description": "A problem document", "content": problem, "headers": line}
    return shown


def _operation(row: RouteSpec, schemas: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": row.handler.__name__ if row.handler else row.path.strip("/").replace("/", "_"),
        "summary": row.summary,
        "tags": [row.tag],
        "responses": _answers(row),
        "x-permission": row.permission.value if row.permission else None,
        "security": _security(row),
    }
    text = inspect.getdoc(row.handler) if row.handler else None
    if text:
        shown["description"] = text
    if parameters := _parameters(row, schemas):
        shown["parameters"] = parameters
    if row.body is not None:
        shown["requestBody"] = {
            "required": not row.body_optional,
            "content": {"application/json": {"schema": {"$ref": _REF.format(name=row.body.__name__)}}},
        }
    return shown


def _security(row: RouteSpec) -> list[dict[str, list[str]]]:
    if row.permission is None:
        return []
    names = {Auth.DEVICE: ("token", "signature"), Auth.COOKIE: ("session",), Auth.TICKET: ("ticket",)}
    return [{name: []} for kind in sorted(row.auth) for name in names.get(kind, ())]


def describe(rows: Sequence[RouteSpec]) -> dict[str, Any]:
    """The OpenAPI document of the rows that have a handler of the API."""
    _, schemas = msgspec.json.schema_components(_types(rows), ref_template=_REF)
    for schema in schemas.values():
        if "description" in schema:  # docstrings, which Python 3.13 has freed of their indentation and 3.11 has not
            schema["description"] = inspect.cleandoc(schema["description"])
    for kind in _types(rows):
        if issubclass(kind, Request):
            schemas[kind.__name__]["additionalProperties"] = False
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.handler is not None:
            method = "get" if row.method == "WS" else row.method.lower()
            paths.setdefault(row.path, {})[method] = _operation(row, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "hubd LAN API", "version": API_VERSION, "description": DESCRIPTION},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Token of a paired device."},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Signature",
                    "description": "RFC 9421 signature of a paired browser's key.",
                },
                "session": {"type": "apiKey", "in": "cookie", "name": "hubd_session"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
            },
        },
    }


def as_bytes(document: dict[str, Any]) -> bytes:
    """The document as it is served and checked in."""
    return (json.dumps(document, indent=1, sort_keys=False, ensure_ascii=False) + "\n").encode()


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#f4f4f4;padding:.75rem;overflow:auto}summary{cursor:pointer}table{border-collapse:collapse}
td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}
.m{display:inline-block;min-width:4.5rem;font-weight:700}
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}pre{background:#262626}h2{border-color:#555}}
"""


def docs_page(document: dict[str, Any]) -> bytes:
    """The description as one page without scripts; nothing is loaded from anywhere."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation_html(method, path, operation))
    schemas = "".join(
        f"<details id='{name}'><summary><code>{name}</code></summary>"
        f"<pre>{html.escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre></details>"
        for name, schema in document["components"]["schemas"].items()
    )
    parts = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(shown)}" for tag, shown in sorted(by_tag.items()))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>hubd LAN API</title><style>{_STYLE}</style><h1>hubd LAN API {API_VERSION}</h1>"
        f"<p>{html.escape(DESCRIPTION)}</p><p><a href='/openapi.json'>openapi.json</a></p>{parts}"
        f"<h2>Shapes</h2>{schemas}</html>"
    ).encode()


def _operation_html(method: str, path: str, operation: dict[str, Any]) -> str:
    def link(content: dict[str, Any]) -> str:
        names = [item["schema"].get("$ref", "").rpartition("/")[2] for item in content.values()]
        return ", ".join(f"<a href='#{name}'>{name}</a>" for name in names if name)

    rows = "".join(
        f"<tr><td><code>{html.escape(one['name'])}</code></td><td>{one['in']}</td>"
        f"<td>{html.escape(one['schema'].get('description', ''))}</td></tr>"
        for one in operation.get("parameters", ())
    )
    body = operation.get("requestBody", {}).get("content", {})
    answers = "; ".join(f"{status} {link(one.get('content', {}))}" for status, one in operation["responses"].items())
    return (
        f"<details><summary><span class='m'>{method.upper()}</span><code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary><p>{html.escape(operation.get('description', ''))}</p>"
        f"<p>Permission: <code>{operation['x-permission'] or 'none'}</code>. {f'Body: {link(body)}. ' if body else ''}"
        f"Answers: {answers}</p><table>{rows}</table></details>"
    )
