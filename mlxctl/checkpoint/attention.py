"""Which layers hold attention scores in memory: two tokens go through the unevaluated model. Called by model_facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxctl.sharding.swap import restore, swap

FUSED_HEAD_SIZES = (64, 80, 128)
"""Of a prompt's heads those that MLX's Metal kernel takes; the scores of all others are made in memory there too."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores that a layer holds, in `heads`: twice as many where a bias for each is added. A kernel can do without them
    if `is_fusable`.
    """

    heads: int = 0
    is_fusable: bool = True


def attention_scores(model: Any) -> dict[int, Scores]:
    """By layer, of those that call MLX's attention. The layers of `model` must be called in order."""
    watch = _Watch()
    layers = list(model.layers)
    for index, layer in enumerate(layers):
        swap(layer, partial(watch.layer, index))
    try:
        with watch.attention():
            model(mx.zeros((1, 2), mx.int32), cache=make_prompt_cache(model))
    finally:
        for layer in reversed(layers):
            restore(layer)
    return watch.scores


class _Watch:
    """Notes the shapes that each layer gives to MLX's attention."""

    def __init__(self) -> None:
        self.scores: dict[int, Scores] = {}
        self._layer: int | None = None

    def layer(self, index: int, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._layer = index
        try:
            return forward(*args, **kwargs)
        finally:
            self._layer = None

    @contextmanager
    def attention(self) -> Iterator[None]:
        fast: Any = mx.fast
        original = fast.scaled_dot_product_attention

        def watched(queries: mx.array, keys: mx.array, values: mx.array, **settings: Any) -> mx.array:
            self._note(queries, values, settings.get("mask"))
            attended: mx.array = original(queries, keys, values, **settings)
            return attended

        fast.scaled_dot_product_attention = watched
        try:
            yield
        finally:
            fast.scaled_dot_product_attention = original

    def _note(self, queries: mx.array, values: mx.array, mask: Any) -> None:
        if self._layer is None:
            return
        heads, size = queries.shape[1], queries.shape[3]
        is_biased = isinstance(mask, mx.array) and mask.ndim > 2 and mask.shape[-3] > 1
        is_fusable = size == values.shape[3] and size in FUSED_HEAD_SIZES and not is_biased
        before = self.scores.get(self._layer, Scores())
        held = before.heads + heads * (2 if is_biased else 1)
        self.scores[self._layer] = Scores(held, before.is_fusable and is_fusable)
