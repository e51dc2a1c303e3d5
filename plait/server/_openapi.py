"""The OpenAPI 3.1 document, made from the workflows' own types."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from plait.durable._types import input_adapter, output_adapter
from plait.server._models import KEY, ProblemView
from plait.server._operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plait.server._operations import Operation
    from plait.server._site import Site

_EVERYWHERE = (400, 401, 403, 408, 413, 429, 431, 503)
_PARAMETER = re.compile(r"\{(\w+)\}")
_SENTENCES = {
    200: "Done.",
    202: "Taken.",
    204: "Done.",
    400: "The request is malformed.",
    401: "There is no token, or it is not valid.",
    403: "The token lacks a scope, or the request comes from where none are let in from.",
    404: "There is nothing of that name.",
    408: "The body took too long to arrive.",
    409: "The run is not in a state for this, or its id stands for something else.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    422: "The body does not fit.",
    429: "Too many requests; Retry-After says when to go on.",
    431: "The headers are too long.",
    503: "The journal cannot be used now, or the server is about to end.",
}
_HEADERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "Makes sending a request twice the same as once; a new run's id.",
        "schema": {"type": "string", "pattern": f"^{KEY}$"},
    },
    "Prefer": {
        "description": "`wait=10`: answer once the run has ended, or after so many seconds.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]{1,3}$"},
    },
}

Schema = dict[str, Any]


def document(site: Site, root: str = "") -> dict[str, Any]:
    """The OpenAPI document of a server.

    Args:
        site: The server.
        root: The path that it is mounted at.
    """
    schemas, components = _schemas(site)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        if operation.body == "input":
            for name in site.workflows:
                path = operation.path.replace("{workflow}", quote(name, safe="@"))
                paths[path] = {"post": _start(operation, name, site, schemas)}
        elif operation.name != "receive" or site.webhooks:
            described = _described(operation, schemas)
            paths.setdefault(operation.path, {})[operation.method.lower()] = described
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": site.title, "version": version("plait")},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }
    if not site.guard.is_open:
        bearer = {"type": "http", "scheme": "bearer"}
        whole["components"]["securitySchemes"] = {"token": bearer}
        for described in (one for path in paths.values() for one in path.values()):
            if described.pop("x-scope", None) is not None:
                described["security"] = [{"token": []}]
    return whole


def _schemas(site: Site) -> tuple[Mapping[Any, Schema], dict[str, Any]]:
    """The schemas of all that is taken and answered, and what they refer to."""
    wanted: list[Any] = []
    for name, workflow in site.workflows.items():
        wanted.append((("in", name), "validation", input_adapter(workflow)))
        wanted.append((("out", name), "serialization", output_adapter(workflow)))
    models: set[type[BaseModel]] = {
        ProblemView,
        *(m for o in OPERATIONS for m in o.answers.values() if m),
    }
    models |= {o.body for o in OPERATIONS if isinstance(o.body, type)}
    for model in sorted(models, key=lambda model: model.__name__):
        mode = "serialization" if model.__name__ != "ForkRequest" else "validation"
        wanted.append((model, mode, TypeAdapter(model)))
    found, definitions = TypeAdapter.json_schemas(
        wanted, ref_template="#/components/schemas/{model}"
    )
    return {key: schema for (key, _), schema in found.items()}, definitions.get("$defs", {})


def _start(
    operation: Operation, name: str, site: Site, schemas: Mapping[Any, Schema]
) -> dict[str, Any]:
    """Starting one workflow, with its own types."""
    described = _described(operation, schemas)
    workflow = site.workflows[name]
    described["operationId"] = f"start_{name}"
    described["summary"] = f"Start a run of {name}; its input is the body."
    if workflow.__doc__ and workflow.__doc__ != type(workflow).__doc__:
        described["description"] = workflow.__doc__
    described["parameters"] = [p for p in described["parameters"] if p["in"] != "path"]
    described["requestBody"] = _json(schemas["in", name], required=True)
    for status in operation.answers:
        result = {"properties": {"result": {"anyOf": [schemas["out", name], {"type": "null"}]}}}
        schema = described["responses"][str(status)]["content"]["application/json"]
        schema["schema"] = {"allOf": [schema["schema"], result]}
    return described


def _described(operation: Operation, schemas: Mapping[Any, Schema]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(operation.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
    ]
    parameters += [
        {"name": name, "in": "header", **_HEADERS.get(name, {"schema": {"type": "string"}})}
        for name in operation.headers
    ]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": (operation.handle.__doc__ or "").partition("\n")[0],
        "parameters": parameters,
        "responses": {
            **{str(s): _answer(operation, s, m, schemas) for s, m in operation.answers.items()},
            **_problems(operation, schemas),
        },
    }
    if operation.scope is not None:
        described["x-scope"] = operation.scope
        described["description"] = f"Needs the scope `{operation.scope}`."
    if operation.body == "any":
        described["requestBody"] = _json({}, required=False)
    elif isinstance(operation.body, type) and issubclass(operation.body, BaseModel):
        described["requestBody"] = _json(schemas[operation.body], required=False)
    return described


def _answer(
    operation: Operation, status: int, model: Any, schemas: Mapping[Any, Schema]
) -> dict[str, Any]:
    if status == 204:
        return {"description": _SENTENCES[status]}
    schema: Schema = schemas[model] if model is not None else {}
    content = {operation.media_type: {"schema": schema}}
    return {"description": _SENTENCES[status], "content": content}


def _problems(operation: Operation, schemas: Mapping[Any, Schema]) -> dict[str, Any]:
    """What it refuses with."""
    content = {"application/problem+json": {"schema": schemas[ProblemView]}}
    statuses = sorted({*_EVERYWHERE, *operation.problems}.difference(operation.answers))
    return {str(s): {"description": _SENTENCES[s], "content": content} for s in statuses}


def _json(schema: Schema, *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}
