"""The description of the API."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from mlxctl.api.openapi import describe_api

pytestmark = pytest.mark.unit


def request_validator() -> Draft202012Validator:
    document = describe_api()
    return Draft202012Validator({"$ref": "#/components/schemas/ChatRequest", **document})


@pytest.mark.parametrize(
    "fields",
    [{}, {"stop": "a"}, {"stop": ["a"]}, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}],
    ids=str,
)
def test_it_describes_what_is_taken(fields: dict[str, object]) -> None:
    hello = {"role": "user", "content": "Hello!"}
    assert request_validator().is_valid({"model": "canary", "messages": [hello], **fields})


@pytest.mark.parametrize("fields", [{"n": 2}, {"unknown": 1}, {"stop": ["a"] * 5}, {"messages": []}], ids=str)
def test_it_describes_what_is_refused(fields: dict[str, object]) -> None:
    hello = {"role": "user", "content": "Hello!"}
    assert not request_validator().is_valid({"model": "canary", "messages": [hello], **fields})


def test_every_reference_in_it_leads_somewhere() -> None:
    document = describe_api()
    schemas = document["components"]["schemas"]
    text = str(document)
    names = {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= schemas.keys()
