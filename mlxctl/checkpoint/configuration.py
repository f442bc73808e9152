"""What a config.json says beyond shapes: context, counts, quantization. Pure; called by model_facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxctl.sharding.from_config import setting

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
    "model_max_length",
)
UNBOUNDED_CONTEXT = 1 << 20
"""For state-space models, which name no limit."""


def context_limit(config: Mapping[str, Any]) -> int:
    """Tokens that the model was made for."""
    for key in _CONTEXT_KEYS:
        if isinstance(value := setting(config, key), int) and 0 < value < 1 << 40:
            return value
    return UNBOUNDED_CONTEXT


def count(config: Mapping[str, Any], *keys: str, default: int) -> int:
    """The first of `keys` that the config gives as a positive number."""
    found = (setting(config, key) for key in keys)
    return next((value for value in found if isinstance(value, int) and value > 0), default)


def quantization(config: Mapping[str, Any]) -> str:
    """Such as `8-bit g64`, `4-bit g64, mixed`, `mxfp4`; `none` for plain floating point."""
    given = config.get("quantization") or {}
    if not given:
        method = (config.get("quantization_config") or {}).get("quant_method")
        return str(method) if method else "none"
    mixed = ", mixed" if any(isinstance(value, dict | bool) for value in given.values()) else ""
    mode = given.get("mode", "affine")
    name = f"{given.get('bits')}-bit g{given.get('group_size')}" if mode == "affine" else str(mode)
    return name + mixed
