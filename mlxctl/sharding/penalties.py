"""Logit bias and penalties for repeated tokens, as mlx-lm takes them, for all rows at once. Called by sampling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlxctl.request import Sampling


def penalized(logits: mx.array, rows: Sequence[Sampling], recent: Sequence[Sequence[int]]) -> mx.array:
    """`logits` [B, V] after each row's bias and penalties; `recent` are the row's last tokens, oldest first.

    In mlx-lm's order: bias, repetition (once a token), presence (once a token), frequency (for each occurrence).
    """
    counts = [Counter(tokens[-row.repetition_context :]) for row, tokens in zip(rows, recent, strict=True)]
    biased = [(index, token, amount) for index, row in enumerate(rows) for token, amount in row.logit_bias]
    repeated = [
        (index, token, row.repetition_penalty)
        for index, row in enumerate(rows)
        if row.repetition_penalty != 1
        for token in counts[index]
    ]
    lessened = [
        (index, token, -row.presence_penalty - count * row.frequency_penalty)
        for index, row in enumerate(rows)
        if row.presence_penalty or row.frequency_penalty
        for token, count in counts[index].items()
    ]
    if biased:
        logits = _add(logits, biased)
    if repeated:
        index, tokens, penalty = _columns(repeated, logits.dtype)
        chosen = logits[index, tokens]
        logits = logits.at[index, tokens].add(mx.where(chosen < 0, chosen * penalty, chosen / penalty) - chosen)
    return _add(logits, lessened) if lessened else logits


def _add(logits: mx.array, entries: Sequence[tuple[int, int, float]]) -> mx.array:
    index, tokens, amounts = _columns(entries, logits.dtype)
    added: mx.array = logits.at[index, tokens].add(amounts)
    return added


def _columns(entries: Sequence[tuple[int, int, float]], dtype: Any) -> tuple[mx.array, mx.array, mx.array]:
    index, tokens, amounts = zip(*entries, strict=True)
    return mx.array(index), mx.array(tokens), mx.array(amounts, dtype)
