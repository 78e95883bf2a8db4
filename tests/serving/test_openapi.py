"""The OpenAPI page shows both endpoints, typed, with examples that work."""

from typing import Any

import pytest

from serving.answers import ENDPOINTS
from serving.guard import JSON
from tests.serving.shop import Server


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    document: dict[str, Any] = server.client.get("/docs.json").json()
    return document


def references(node: Any) -> set[str]:
    """Every $ref in a document."""
    if isinstance(node, dict):
        return {node["$ref"]} if "$ref" in node else set().union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_the_document_hangs_together(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    assert {"/v1/churn", "/v1/recommend", "/livez", "/readyz"} <= document["paths"].keys()
    wanted = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert wanted <= document["components"]["schemas"].keys()
    event = document["components"]["schemas"]["Event"]
    assert event["additionalProperties"] is False
    assert event["properties"]["ts"]["format"] == "date-time"
    assert event["required"] == ["ts", "kind"]


@pytest.mark.parametrize("path", [path for path, endpoint in ENDPOINTS.items() if endpoint.method == "POST"])
def test_every_example_is_what_it_says(path: str, document: dict[str, Any], server: Server) -> None:
    operation, endpoint = document["paths"][path]["post"], ENDPOINTS[path]
    asked = operation["requestBody"]["content"][JSON]["examples"]
    assert len(asked) >= 2
    for example in asked.values():
        response = server.client.post(path, json=example["value"])
        assert response.status_code == 200, response.text
        endpoint.response.model_validate(response.json())
    answered = operation["responses"]["200"]["content"][JSON]["examples"]
    assert [endpoint.response.model_validate(example["value"]) for example in answered.values()]
    assert {"400", "413", "415", "422", "500"} <= operation["responses"].keys()


def test_a_user_is_read_by_id(document: dict[str, Any]) -> None:
    operation, endpoint = document["paths"]["/v1/users/{id}"]["get"], ENDPOINTS["/v1/users"]
    assert {p["name"]: (p["in"], p["required"]) for p in operation["parameters"]} == {
        "id": ("path", True),
        "as_of": ("query", False),
        "language": ("query", False),
    }
    for example in operation["responses"]["200"]["content"][JSON]["examples"].values():
        endpoint.response.model_validate(example["value"])


def test_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.client.get("/")
    assert page.status_code == 200
    assert "swagger-ui" in page.text
    assert "http" not in page.text
    for script in ("swagger-ui-bundle.js", "swagger-initializer.js", "swagger-ui.css"):
        assert server.client.get(f"/static_content/{script}").status_code == 200
    assert "docs.json" in server.client.get("/static_content/swagger-initializer.js").text
