"""Models that MLX cannot compute on this machine, found before a weight is read. Called by load.py and the planner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.switch_layers import SwitchLinear

from mlxctl.errors import CheckpointError
from mlxctl.sharding.arrays import dtype_name
from mlxctl.sharding.layer_map import TRACED_TOKENS
from mlxctl.sharding.model import LoadedModel, build_skeleton, read_headers
from mlxctl.sharding.trace import trace


def unsupported_here(config: Mapping[str, Any], path: Path) -> str | None:
    """Why the model of `config` in `path` cannot run on this machine; None if nothing speaks against it."""
    try:
        skeleton = build_skeleton(path, read_headers(path))
        trace(skeleton.model, TRACED_TOKENS)
    except (CheckpointError, RuntimeError) as error:
        if reason := needs_metal(error):
            return f"{config['model_type']} {reason}"
        raise
    return unsupported(skeleton)


def unsupported(skeleton: LoadedModel) -> str | None:
    """The same, for a skeleton that could be built and traced."""
    if mx.default_device() != mx.cpu:
        return None
    for module in skeleton.model.modules():
        if isinstance(module, SwitchLinear) and module.weight.dtype != mx.float32:
            return (
                f"{skeleton.config['model_type']} has experts in {dtype_name(module.weight)}, which MLX's CPU backend "
                "cannot multiply; it needs float32 or quantized experts"
            )
    return None


def needs_metal(error: BaseException) -> str | None:
    """What to say of an `error` raised for want of a Metal GPU; None for any other."""
    while error.__cause__ is not None:
        error = error.__cause__
    return "needs a Metal GPU: it computes with kernels written for one" if "metal_kernel" in str(error) else None
