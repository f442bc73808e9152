"""A model built from its config.json alone: shapes, dtype, quantization, lazy zeros. For checkpoint, random_model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from mlx_lm import utils as mlx_lm_utils

from mlxctl.errors import CheckpointError
from mlxctl.sharding.model import LoadedModel, read_config


def build_from_config(path: Path) -> LoadedModel:
    """The model that config.json describes, its parameters lazy zeros. Raises CheckpointError."""
    config = read_config(path)
    try:
        model_class, args_class = mlx_lm_utils._get_classes(config)
        model = model_class(args_class.from_dict(config))
        model.set_dtype(getattr(mx, stored_dtype(config)))
        _quantize(model, config)
        model.update(tree_map(lambda array: mx.zeros(array.shape, array.dtype), model.parameters()))
    except (Exception, SystemExit) as error:
        raise CheckpointError(
            f"mlx-lm cannot build the {config['model_type']} model of {path}: {' '.join(str(error).split())}",
            hint="config.json must be of a model that the installed mlx-lm supports",
        ) from error
    return LoadedModel(model, config)


def stored_dtype(config: Mapping[str, Any]) -> str:
    """`bfloat16`, `float16` or `float32`, as the config says; bfloat16 if it does not."""
    name = str(setting(config, "torch_dtype") or setting(config, "dtype") or "bfloat16").removeprefix("torch.")
    return name if name in ("float16", "bfloat16", "float32") else "bfloat16"


def setting(config: Mapping[str, Any], key: str) -> Any:
    """A top-level value, else that of the text part of a multi-modal config."""
    inner = config.get("text_config")
    return config.get(key) or (inner.get(key) if isinstance(inner, Mapping) else None)


def _quantize(model: Any, config: Mapping[str, Any]) -> None:
    settings = config.get("quantization")
    if not settings:
        return
    group = settings["group_size"]

    def wanted(path: str, module: Any) -> bool | dict[str, Any]:
        if path in settings:
            chosen: bool | dict[str, Any] = settings[path]
            return chosen
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % group == 0

    mode = settings.get("mode", "affine")
    nn.quantize(model, group_size=group, bits=settings["bits"], mode=mode, class_predicate=wanted)
