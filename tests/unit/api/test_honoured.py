"""Fields that wait for the engine are refused as long as they ask for something."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxctl.api.honoured import NOT_YET, check_honoured
from mlxctl.api.schema import ChatRequest
from mlxctl.errors import RequestError

pytestmark = pytest.mark.unit

ASKING = {
    "frequency_penalty": 0.5,
    "presence_penalty": -1,
    "repetition_penalty": 1.1,
    "xtc_probability": 0.5,
    "logit_bias": {"1": 1},
    "logprobs": True,
    "timeout": 5,
    "priority": "batch",
}
NOT_ASKING = {
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1,
    "xtc_probability": 0,
    "logit_bias": {},
    "logprobs": False,
    "priority": "interactive",
}


def request(**fields: Any) -> ChatRequest:
    document = {"model": "canary", "messages": [{"role": "user", "content": "Hello!"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(document))


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_what_would_not_happen_is_refused_and_named(name: str) -> None:
    with pytest.raises(RequestError, match=name) as caught:
        check_honoured(request(**{name: ASKING[name]}))
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


def test_what_happens_anyway_is_taken() -> None:
    check_honoured(request(**NOT_ASKING))
    check_honoured(request(**{name: None for name in ASKING}))
