"""Stages of one model in this process, with everything that crosses a cut made bytes and back. Used by model tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import mlx.core as mx

from mlxctl.sharding import Boundary, Shard, Tensor, array_bytes, decode_boundary, encode_boundary, load_model


class Stages:
    """A pipeline of shards, one lane of sequences. `sent_bytes` is what crossed all cuts in the last step."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.caches = [shard.make_cache() for shard in shards]
        self.sent_bytes = 0

    @classmethod
    def load(cls, path: Path, cuts: Sequence[int], layers: int) -> Stages:
        bounds = pairwise([0, *cuts, layers])
        return cls([load_model(path, start, stop, on_progress=lambda _: None) for start, stop in bounds])

    def step(self, tokens: list[list[int]]) -> mx.array:
        """Logits [B, T, V] of `tokens` [B, T]."""
        self.sent_bytes = 0
        inbox: Boundary | None = None
        for shard, cache in zip(self.shards, self.caches, strict=True):
            output = shard.forward(mx.array(tokens, mx.int32), inbox, cache)
            mx.eval(output.arrays(), cache.arrays())
            inbox = self._through_bytes(output.boundary) if output.boundary else None
        assert output.logits is not None
        return output.logits

    def _through_bytes(self, boundary: Boundary) -> Boundary:
        spec, arrays = encode_boundary(boundary)
        tensors = [Tensor("uint8", array.shape, bytes(array_bytes(array))) for array in arrays]
        self.sent_bytes += sum(len(tensor.data) for tensor in tensors)
        return decode_boundary(spec, tensors)


def even_cuts(stages: int, layers: int) -> list[int]:
    """Cuts that give each of `stages` stages its share of `layers`."""
    return [layers * stage // stages for stage in range(1, stages)]
