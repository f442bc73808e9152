"""The next token of each sequence, drawn as mlx-lm draws it but repeatable. Called by the worker of the last stage.

Everything here is a row's own affair: what is drawn hangs on its logits, Sampling, position and recent tokens, never on
other rows or on what was drawn before. A draw inverts the distribution at a u that is a hash of (seed, position).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import mlx.core as mx
import numpy as np

from mlxctl.request import Sampling, TokenLogprob
from mlxctl.sharding.filters import Filters, choose, choose_from_all, is_filtered
from mlxctl.sharding.penalties import penalized

_U_BITS = 22  # so that u < 1 stays below 1 in float32, and u * total below total


@dataclass(slots=True)
class Draw:
    """Tokens being drawn for B rows: evaluate `arrays`, then ask for `tokens`, `logprobs`; neither builds a graph."""

    rows: int
    arrays: list[mx.array] = field(default_factory=list)
    _groups: list[tuple[list[int], mx.array]] = field(default_factory=list)
    _unsure: _Unsure | None = None
    _reported: _Reported | None = None

    def tokens(self) -> list[int]:
        """Token ids, one a row."""
        drawn = [0] * self.rows
        for index, ids in self._groups:
            for row, token in zip(index, np.asarray(ids).tolist(), strict=True):
                drawn[row] = token
        if self._unsure is not None:
            self._unsure.correct(drawn)
        return drawn

    def lazy_tokens(self) -> mx.array | None:
        """The same as an array [B], int32, not evaluated; None where some rows may have to be drawn again."""
        if self._unsure is not None:
            return None
        if len(self._groups) == 1:
            return self._groups[0][1]
        ids = mx.concatenate([ids for _, ids in self._groups])
        order = [row for index, _ in self._groups for row in index]
        return ids[mx.array([order.index(row) for row in range(self.rows)])]

    def logprobs(self, tokens: Sequence[int]) -> list[TokenLogprob | None]:
        """For each row that asked for it, what is known of the token drawn and of the likeliest ones."""
        return [None] * self.rows if self._reported is None else self._reported.records(self.rows, tokens)


@dataclass(frozen=True, slots=True)
class _Unsure:
    """Rows drawn from their likeliest tokens; those for which these did not suffice are drawn again from all."""

    index: list[int]
    logprobs: mx.array
    is_sure: mx.array
    filters: Filters

    def correct(self, drawn: list[int]) -> None:
        for place, is_sure in enumerate(np.asarray(self.is_sure).tolist()):
            if not is_sure:
                drawn[self.index[place]] = choose_from_all(np.asarray(self.logprobs)[place], self.filters.row(place))


@dataclass(frozen=True, slots=True)
class _Reported:
    """Rows whose log-probabilities are wanted, each with how many of the likeliest."""

    index: list[int]
    wanted: list[int]
    logprobs: mx.array
    top: mx.array

    def records(self, rows: int, tokens: Sequence[int]) -> list[TokenLogprob | None]:
        found: list[TokenLogprob | None] = [None] * rows
        logprobs, top = np.asarray(self.logprobs), np.asarray(self.top)
        for place, (row, wanted) in enumerate(zip(self.index, self.wanted, strict=True)):
            likeliest = sorted(top[place].tolist(), key=lambda token: (-logprobs[place, token], token))[:wanted]
            pairs = tuple((token, float(logprobs[place, token])) for token in likeliest)
            found[row] = TokenLogprob(tokens[row], float(logprobs[place, tokens[row]]), pairs)
        return found


def sample(
    logits: mx.array, rows: Sequence[Sampling], positions: Sequence[int], recent: Sequence[Sequence[int]] = ()
) -> Draw:
    """Draw from the last position's `logits` [B, V], with one Sampling and position (tokens before it) a row.

    Without `rows`, and at temperature 0, a row takes its most likely token. `recent` holds each row's last tokens,
    needed for penalties alone.
    """
    if not rows:
        likeliest = _most_likely(logits)
        return Draw(logits.shape[0], [likeliest], [(list(range(logits.shape[0])), likeliest)])
    if any(row.changes_logits for row in rows):
        logits = penalized(logits, rows, recent or [()] * len(rows))
    draw = Draw(len(rows))
    vocabulary = logits.shape[-1]
    greedy, plain, filtered = _sorted_out(rows, vocabulary)
    if greedy:
        draw._groups.append((greedy, _most_likely(_rows_of(logits, greedy))))
    if plain:
        u = mx.array([[_uniform(rows[i].seed, positions[i])] for i in plain], mx.float32)
        temperature = mx.array([[rows[i].temperature] for i in plain], mx.float32)
        draw._groups.append((plain, _inverted(_rows_of(logits, plain).astype(mx.float32), temperature, u)))
    if filtered:
        chosen = [rows[i] for i in filtered]
        us = [[_uniform(rows[i].seed, positions[i], use) for i in filtered] for use in (0, 1)]
        filters = Filters.of(chosen, us[0], us[1], vocabulary)
        logprobs = _logprobs(_rows_of(logits, filtered))
        ids, is_sure = choose(logprobs, filters)
        draw._groups.append((filtered, ids))
        draw._unsure = _Unsure(filtered, logprobs, is_sure, filters)
        draw.arrays += [logprobs, is_sure]
    _report(draw, logits, rows)
    draw.arrays += [ids for _, ids in draw._groups]
    return draw


def _sorted_out(rows: Sequence[Sampling], vocabulary: int) -> tuple[list[int], list[int], list[int]]:
    """Indices of greedy rows, of rows drawn from the whole distribution, and of rows with filters."""
    groups: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index, row in enumerate(rows):
        groups[0 if row.temperature == 0 else 2 if is_filtered(row, vocabulary) else 1].append(index)
    return groups


def _rows_of(logits: mx.array, index: list[int]) -> mx.array:
    return logits if len(index) == logits.shape[0] else logits[mx.array(index)]


def _most_likely(logits: mx.array) -> mx.array:
    """As mlx-lm: of log-probabilities in the logits' own type, which in 16 bits makes tokens equal that were not."""
    if logits.dtype != mx.float32:
        logits = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return mx.argmax(logits, axis=-1).astype(mx.int32)


def _inverted(logits: mx.array, temperature: mx.array, u: mx.array) -> mx.array:
    mass = mx.cumsum(mx.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature), axis=-1)
    return (mass <= u * mass[:, -1:]).sum(axis=-1).astype(mx.int32)


def _logprobs(logits: mx.array) -> mx.array:
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _report(draw: Draw, logits: mx.array, rows: Sequence[Sampling]) -> None:
    asked = [(index, row.top_logprobs) for index, row in enumerate(rows) if row.top_logprobs is not None]
    if not asked:
        return
    index, wanted = [index for index, _ in asked], [count for _, count in asked]
    logprobs = _logprobs(_rows_of(logits, index))
    most = min(max(1, *wanted, 1), logits.shape[-1])
    top = mx.argpartition(logprobs, kth=-most, axis=-1)[:, -most:]
    draw._reported = _Reported(index, wanted, logprobs, top)
    draw.arrays += [logprobs, top]


def _uniform(seed: int, position: int, use: int = 0) -> float:
    """A number in (0, 1) for one draw; hashed, as neighbouring seeds and positions would else draw alike."""
    data: Any = struct.pack("<QQB", seed % 2**64, position, use)
    drawn = int.from_bytes(blake2b(data, digest_size=8).digest(), "little") >> (64 - _U_BITS)
    return float((drawn + 0.5) / 2**_U_BITS)
