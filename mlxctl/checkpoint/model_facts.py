"""Folder → ModelFacts: exact bytes per layer, KV growth, legal cuts; no weight is read. Called by launch and `plan`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

from mlxctl.checkpoint import configuration
from mlxctl.checkpoint.attention import Scores, attention_scores
from mlxctl.checkpoint.files import all_tensors
from mlxctl.checkpoint.growth import cache_growth
from mlxctl.checkpoint.hub import HEADERS
from mlxctl.checkpoint.outer import outer_weights
from mlxctl.checkpoint.quantized_caches import quantized_cache_fault
from mlxctl.checkpoint.reads import reads, switches_in
from mlxctl.checkpoint.resolve import resolve_model, revision_of
from mlxctl.errors import CheckpointError
from mlxctl.facts import CacheGrowth, LayerFacts, ModelFacts
from mlxctl.sharding.caches import is_batchable
from mlxctl.sharding.from_config import build_from_config
from mlxctl.sharding.layer_map import TRACED_TOKENS, LayerMap, layer_map
from mlxctl.sharding.model import LoadedModel, build_skeleton
from mlxctl.sharding.random_weights import is_random
from mlxctl.sharding.safetensors import TensorHeader
from mlxctl.sharding.support import needs_metal, unsupported
from mlxctl.sharding.trace import Trace, trace


def read_model_facts(name: str | Path, *, weights_required: bool = True) -> ModelFacts:
    """What the planner must know of the model `name` (see resolve_model).

    Without `weights_required`, a folder with only a config.json will do: then dtype and quantization are what the
    config says. Raises CheckpointError naming the broken or missing file.
    """
    path = resolve_model(name)
    has_files = any(path.glob("model*.safetensors")) or (path / HEADERS).is_dir() or is_random(path)
    config_only = not weights_required and not has_files
    headers = {} if config_only else all_tensors(path)
    loaded = build_from_config(path) if config_only else build_skeleton(path, headers)
    try:
        traced = trace(loaded.model, TRACED_TOKENS)
        cuts = layer_map(loaded.layer_count, traced)
        return _facts(str(name), path, loaded, headers, traced, cuts)
    except RuntimeError as error:
        if reason := needs_metal(error):
            raise CheckpointError(f"{loaded.config['model_type']} {reason}", hint="plan it on a Mac") from None
        raise


def _facts(
    name: str,
    path: Path,
    loaded: LoadedModel,
    headers: Mapping[str, TensorHeader],
    traced: Trace,
    cuts: LayerMap,
) -> ModelFacts:
    model, config = loaded.model, loaded.config
    layers = enumerate(model.layers)
    watched = reads(model)
    outer = outer_weights(model, watched.readers)
    hidden = configuration.count(config, "hidden_size", "n_embd", "d_model", "dim", "model_dim", default=1)
    vocabulary = configuration.count(config, "vocab_size", default=outer.rows)
    heads = configuration.count(config, "num_attention_heads", "n_head", "num_heads", "n_heads", default=1)
    scores = attention_scores(model)
    own_scores = Scores(2 * heads, False)
    return ModelFacts(
        name=Path(name).name if Path(name).is_absolute() else name,
        path=str(path),
        revision=revision_of(path),
        hash=_hash(config, headers),
        architecture=str(config["model_type"]),
        layers=tuple(
            _layer(
                i,
                layer,
                traced,
                cuts,
                watched.experts_per_token.get(i, 0),
                scores.get(i) or (own_scores if _has_keys(i, traced, cuts) else Scores()),
            )
            for i, layer in layers
        ),
        embedding_bytes=outer.embedding_bytes,
        head_bytes=outer.head_bytes,
        tied=outer.tied,
        legal_cuts=cuts.legal_cuts,
        illegal_cuts=dict(cuts.illegal_cuts),
        context_limit=configuration.context_limit(config),
        vocab_size=vocabulary,
        hidden_size=hidden,
        dtype=_activation_dtype(model),
        quantization=configuration.quantization(config),
        other_first_bytes=outer.other_first_bytes,
        other_last_bytes=outer.other_last_bytes,
        other_every_bytes=outer.other_every_bytes,
        output_bytes=outer.output_bytes,
        boundary_token_bytes=_boundary_bytes(cuts),
        stage_caches=_growth(traced, _unowned(cuts)),
        head_macs=vocabulary * hidden,
        has_weights=bool(headers),
        unsupported_here=unsupported(loaded),
        quantized_cache_fault=quantized_cache_fault(model),
        is_batchable=all(is_batchable(slot) for slot in make_prompt_cache(model)),
    )


def _layer(index: int, layer: Any, traced: Trace, cuts: LayerMap, chosen: int, scores: Scores) -> LayerFacts:
    """`chosen` experts of the layer's are read by a token; `scores` are those that it holds."""
    switches = switches_in(layer)
    slots = [slot for slot in cuts.slots[index] if _owner(slot, cuts) == index]
    return LayerFacts(
        index=index,
        weight_bytes=_size(layer),
        caches=_growth(traced, slots),
        expert_bytes=sum(_size(switch) for switch in switches) if chosen else 0,
        experts=switches[0].weight.shape[0] if switches and chosen else 0,
        experts_per_token=chosen,
        token_macs=sum(_macs(module, chosen) for module in layer.modules()),
        token_width=sum(_width(module, chosen) for module in layer.modules()),
        score_heads=scores.heads,
        is_fusable=scores.is_fusable,
    )


def _has_keys(index: int, traced: Trace, cuts: LayerMap) -> bool:
    """Whether a layer is given a cache that grows, be it another's, or may reach one that no layer was seen to get."""
    return any(growth.token_bytes for growth in _growth(traced, cuts.slots[index] or _unowned(cuts)))


def _owner(slot: int, cuts: LayerMap) -> int:
    """The first layer that is given a slot: it is the one to hold it."""
    return next(index for index, slots in enumerate(cuts.slots) if slot in slots)


def _unowned(cuts: LayerMap) -> list[int]:
    """Slots that no layer was seen to get: filled outside the layers, or of a model that cannot be cut at all."""
    owned = {slot for slots in cuts.slots for slot in slots}
    return [slot for slot in range(len(cuts.slot_kinds)) if slot not in owned]


def _growth(traced: Trace, slots: Sequence[int]) -> tuple[CacheGrowth, ...]:
    return tuple(growth for slot in slots for growth in cache_growth(traced.slots[slot], sum(TRACED_TOKENS)))


def _size(module: Any) -> int:
    return sum(array.nbytes for _, array in tree_flatten(module.parameters()))


def _matrix(module: Any) -> mx.array | None:
    """This module's own weight, if it is a matrix, or several."""
    weight = module.get("weight")
    is_embedding = isinstance(module, nn.Embedding | nn.QuantizedEmbedding)
    return weight if isinstance(weight, mx.array) and weight.ndim > 1 and not is_embedding else None


def _width(module: Any, experts_per_token: int) -> int:
    """How many numbers come out of this module's matrix for one token; of a convolution's rows all are counted."""
    weight = _matrix(module)
    if weight is None:
        return 0
    if module in switches_in(module):
        return int(weight.shape[-2]) * experts_per_token
    return math.prod(weight.shape[:-1])


def _macs(module: Any, experts_per_token: int) -> int:
    """Multiply-adds of one token in this module's own weight, if it is a matrix."""
    weight = _matrix(module)
    if weight is None:
        return 0
    size = weight.size * 32 // module.bits if weight.dtype == mx.uint32 else weight.size
    if module in switches_in(module):
        return int(size) // weight.shape[0] * experts_per_token
    return int(size)


def _activation_dtype(model: Any) -> str:
    floating = [array for _, array in tree_flatten(model.parameters()) if mx.issubdtype(array.dtype, mx.floating)]
    return str(floating[0].dtype).rpartition(".")[2] if floating else "float32"


def _boundary_bytes(cuts: LayerMap) -> int:
    """Bytes per token that cross the widest cut; what nobody reads is not sent."""
    sizes = [0]
    for crossing in cuts.crossings.values():
        one_token = crossing.templates[-1]
        blanks = {path: blank for path, blank in one_token.blanks.items() if path not in crossing.unread}
        sizes.append(sum(_blank_bytes(blank.dtype, blank.shape) for blank in blanks.values()))
    return max(sizes)


def _blank_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return int(mx.zeros(shape, getattr(mx, dtype)).nbytes)


def _hash(config: Mapping[str, Any], headers: Mapping[str, TensorHeader]) -> str:
    tensors = sorted((name, header.dtype, header.shape) for name, header in headers.items())
    return hashlib.sha256(json.dumps([config, tensors], sort_keys=True, default=str).encode()).hexdigest()
