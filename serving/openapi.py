"""The OpenAPI document of the endpoints, and the page that shows it.

BentoML describes only its own kind of endpoint, so ours are added to what it says of itself, at the addresses where it
would be found anyway.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.answers import ENDPOINTS, Endpoint
from serving.guard import JSON
from serving.schemas import ErrorResponse

ERRORS = {
    400: "The body is not JSON.",
    404: "The deployed bundle has no such model, or the store no such user.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "A field is missing, unknown or wrong; the message says which.",
    500: "The service failed.",
    503: "Too many requests at a time.",
}
_REF = "#/components/schemas/{model}"

# BentoML's own page with its scripts, without the tag manager that it loads from elsewhere.
PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>Ebbtide</title>
    <link rel="stylesheet" href="./static_content/swagger-ui.css">
    <link rel="stylesheet" href="./static_content/index.css">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js" charset="UTF-8"></script>
    <script src="./static_content/swagger-ui-standalone-preset.js" charset="UTF-8"></script>
    <script src="./static_content/swagger-initializer.js" charset="UTF-8"></script>
  </body>
</html>
"""


def document(own: Mapping[str, Any], version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of the endpoints and of BentoML's `own` (health, metrics)."""
    models: list[type[BaseModel]] = [ErrorResponse]
    for endpoint in ENDPOINTS.values():
        models += [endpoint.response] if endpoint.method == "GET" else [endpoint.request, endpoint.response]
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths = {
        path if endpoint.method == "POST" else f"{path}/{{id}}": {endpoint.method.lower(): _operation(path, endpoint)}
        for path, endpoint in ENDPOINTS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ebbtide", "version": version, "description": "What each user will do next, as of a moment."},
        "servers": [{"url": "."}],
        "paths": {**paths, **own["paths"]},
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(path: str, endpoint: Endpoint[Any]) -> dict[str, Any]:
    errors = {str(status): _content(ErrorResponse, said) for status, said in ERRORS.items()}
    asked = {"requestBody": {"required": True, **_content(endpoint.request)}}
    return {
        "operationId": path.rsplit("/", 1)[-1],
        "tags": ["Answers"],
        "summary": endpoint.summary,
        "description": endpoint.answer.__doc__,
        **(asked if endpoint.method == "POST" else {"parameters": _parameters(endpoint.request)}),
        "responses": {"200": _content(endpoint.response, "An answer a user."), **errors},
    }


def _parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """What a GET is asked by: the id in its path, all else in its query string."""
    fields = model.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "path" if name == "id" else "query",
            "required": name == "id",
            "description": field.pop("description", ""),
            "schema": field,
        }
        for name, field in fields.items()
    ]


def _content(model: type[BaseModel], description: str | None = None) -> dict[str, Any]:
    extra = model.model_config.get("json_schema_extra")
    examples = extra["examples"] if isinstance(extra, dict) else []
    assert isinstance(examples, list)
    named = {f"example {number}": {"value": value} for number, value in enumerate(examples, 1)}
    content = {JSON: {"schema": {"$ref": _REF.format(model=model.__name__)}, "examples": named}}
    return {"content": content} if description is None else {"description": description, "content": content}
