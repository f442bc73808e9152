"""A stage's layers read from disk, one by one, and nothing else. Called by the worker on its MLX thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxctl.errors import CheckpointError
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.sharding.model import LoadedModel, build_model, build_skeleton, read_config, read_headers
from mlxctl.sharding.safetensors import TensorHeader
from mlxctl.sharding.shard import Shard
from mlxctl.sharding.support import needs_metal, unsupported

NOTHING: Mapping[str, TensorHeader] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Own layers in memory so far. What else a stage needs (embedding, head) its warm-up reads."""

    layers_done: int
    layers_total: int
    bytes_done: int
    bytes_total: int


def load_model(
    path: Path,
    start: int,
    stop: int,
    *,
    on_progress: Callable[[LoadProgress], None],
    absent: Mapping[str, TensorHeader] = NOTHING,
) -> Shard:
    """The stage of layers [start, stop) of the model in `path`, their weights in memory, all others unread.

    `absent` describes tensors of foreign layers in files that this node does not have. `on_progress` is called before
    the first layer and after each. Raises CheckpointError, IllegalCut; call `warm_up` before serving.
    """
    read_config(path)  # its faults before those of the weights
    skeleton = build_skeleton(path, {**absent, **read_headers(path, absent)})
    layers = map_layers(skeleton)
    layers.check_stage(start, stop)
    if reason := unsupported(skeleton):
        raise CheckpointError(reason, hint="use a quantized or float32 checkpoint, or a machine with a GPU")
    model = build_model(path, absent).model
    _read_layers(list(model.layers)[start:stop], on_progress)
    return Shard(model, start, stop, layers)


def map_layers(skeleton: LoadedModel) -> LayerMap:
    """The layer map of a skeleton. Raises CheckpointError for a model that only a Metal GPU computes."""
    try:
        return LayerMap.of(skeleton.model)
    except RuntimeError as error:
        if reason := needs_metal(error):
            raise CheckpointError(f"{skeleton.config['model_type']} {reason}", hint="use a Mac") from None
        raise


def _read_layers(layers: Sequence[Any], on_progress: Callable[[LoadProgress], None]) -> None:
    parameters = [[array for _, array in tree_flatten(layer.parameters())] for layer in layers]
    sizes = [sum(array.nbytes for array in arrays) for arrays in parameters]
    for done in range(len(layers) + 1):
        on_progress(LoadProgress(done, len(layers), sum(sizes[:done]), sum(sizes)))
        if done < len(layers):
            mx.eval(parameters[done])
            mx.clear_cache()  # what stacking and transposing left behind
