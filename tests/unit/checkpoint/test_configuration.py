"""What a config.json alone tells."""

from __future__ import annotations

from typing import Any

import pytest

from mlxctl.checkpoint.configuration import UNBOUNDED_CONTEXT, context_limit, count, quantization
from mlxctl.sharding.from_config import stored_dtype

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 32768}}, 32768),
        ({"max_position_embeddings": 0, "seq_length": 8192}, 8192),
        ({"model_max_length": 10**30}, UNBOUNDED_CONTEXT),
        ({}, UNBOUNDED_CONTEXT),
    ],
)
def test_the_context_is_found_under_any_of_its_names(config: dict[str, Any], limit: int) -> None:
    assert context_limit(config) == limit


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"torch_dtype": "float16"}, "float16"),
        ({"dtype": "torch.float32"}, "float32"),
        ({"text_config": {"torch_dtype": "float16"}}, "float16"),
        ({"torch_dtype": "float8_e4m3fn"}, "bfloat16"),
        ({}, "bfloat16"),
    ],
)
def test_the_stored_dtype_is_bfloat16_unless_the_config_says_otherwise(config: dict[str, Any], dtype: str) -> None:
    assert stored_dtype(config) == dtype


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "none"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "4-bit g64"),
        ({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "mxfp4"),
        ({"quantization": {"group_size": 64, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}}}, "4-bit g64, mixed"),
        ({"quantization": {"group_size": 64, "bits": 4, "lm_head": False}}, "4-bit g64, mixed"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
    ],
)
def test_quantization_is_told_in_a_word(config: dict[str, Any], text: str) -> None:
    assert quantization(config) == text


def test_a_size_is_the_first_that_is_given() -> None:
    assert count({"n_embd": 5, "d_model": 7}, "hidden_size", "n_embd", "d_model", default=1) == 5
    assert count({}, "hidden_size", default=1) == 1
