"""Requests made up from the API's own description: every answer is one that the description promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import Case, checks

from mlxctl.api.openapi import describe_api
from tests.api_server import ApiServer, serve_api

pytestmark = pytest.mark.api

# What the description cannot say (a context, fields that exclude each other) is refused too.
EXCLUDED = [checks.positive_data_acceptance]


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[ApiServer]:
    with serve_api(context=20) as server:  # short answers
        server.status = {"schema": "mlxctl.status/1", "state": "ready"}
        yield server


schema = schemathesis.openapi.from_dict(describe_api())


@schema.parametrize()
@hypothesis.settings(max_examples=10, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_every_answer_is_as_described(case: Case[Any], fuzzed: ApiServer) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "canary"
    case.call_and_validate(base_url=fuzzed.url, excluded_checks=EXCLUDED)
