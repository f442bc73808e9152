"""The next token of each sequence, drawn as mlx-lm draws it but repeatable. Called by the worker of the last stage."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler

from mlxctl.request import Sampling


def sample(logits: mx.array, rows: Sequence[Sampling], positions: Sequence[int]) -> Any:
    """Token ids int32 [B], lazy, from the last position's `logits` [B, V] and one Sampling and position a row.

    Temperature 0 takes the most likely token. Other draws hang on the row's logits, its Sampling and its position (the
    tokens before it) alone, never on other rows or on what was drawn before.
    """
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    if all(row.temperature == 0 for row in rows):
        return greedy_sampler(logprobs).astype(mx.int32)
    drawn = [
        _draw(logprobs[index : index + 1], row, position)
        for index, (row, position) in enumerate(zip(rows, positions, strict=True))
    ]
    return mx.concatenate(drawn).astype(mx.int32)


def _draw(logprobs: mx.array, row: Sampling, position: int) -> Any:
    """mlx-lm's `make_sampler`, its filters in its order, with a key in place of the global random state."""
    if row.temperature == 0:
        return greedy_sampler(logprobs)
    if 0 < row.top_p < 1:
        logprobs = apply_top_p(logprobs, row.top_p)
    if row.min_p > 0:
        logprobs = apply_min_p(logprobs, row.min_p)
    if 0 < row.top_k < logprobs.shape[-1]:
        logprobs = apply_top_k(logprobs, row.top_k)
    return mx.random.categorical(logprobs * (1 / row.temperature), key=_key(row.seed, position))


def _key(seed: int, position: int) -> Any:
    """A random key for one draw; hashed, as keys of neighbouring numbers would draw alike."""
    digest = blake2b(struct.pack("<QQ", seed % 2**64, position), digest_size=8).digest()
    return mx.random.key(int.from_bytes(digest, "little"))
