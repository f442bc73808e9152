"""KV caches of one stage: real ones for its own layers, stand-ins for all others. Called by Shard and the trace."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_cache

from mlxctl.errors import CheckpointError

# Attributes that tell two caches of one class apart; everything else in a cache is its state.
_SETTINGS = ("max_size", "keep", "chunk_size", "window_size", "bits", "group_size")

# They keep every token in its place: forgetting the last ones is counting less.
_PLAIN = mlx_cache.KVCache | mlx_cache.QuantizedKVCache | mlx_cache.BatchKVCache


def is_cache(node: Any) -> bool:
    """True for mlx-lm's caches and for those that a model brings along."""
    return isinstance(node, mlx_cache._BaseCache) or (hasattr(node, "state") and hasattr(node, "is_trimmable"))


def caches_in(args: Sequence[Any]) -> list[Any]:
    """The caches among a layer's arguments, also those in a list or tuple of caches."""
    found: list[Any] = []
    for value in args:
        if is_cache(value):
            found.append(value)
        elif isinstance(value, list | tuple) and value and all(is_cache(item) for item in value):
            found.extend(value)
    return found


def kind(cache: Any) -> str:
    """Caches of one kind advance alike, so that one can stand in for the other."""
    name = type(cache).__name__
    if isinstance(cache, mlx_cache.CacheList):
        return f"{name}({', '.join(kind(part) for part in cache.caches)})"
    if isinstance(cache, mlx_cache.ArraysCache):
        return name
    settings = [f"{key}={vars(cache)[key]}" for key in _SETTINGS if isinstance(vars(cache).get(key), int)]
    return f"{name}({', '.join(settings)})" if settings else name


def map_cache(function: Callable[[mx.array], mx.array], cache: Any) -> None:
    """Replace every array inside `cache` by `function(array)`, in place."""
    for key, value in vars(cache).items():
        setattr(cache, key, _mapped(function, value))


def cache_arrays(cache: Any) -> list[mx.array]:
    """The arrays inside `cache`, allocated rows included."""
    return list(_arrays(cache))


def _mapped(function: Callable[[mx.array], mx.array], value: Any) -> Any:
    if isinstance(value, mx.array):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)(_mapped(function, item) for item in value)
    if is_cache(value):
        map_cache(function, value)
    return value


def _arrays(value: Any) -> Iterator[mx.array]:
    if isinstance(value, mx.array):
        yield value
    elif type(value) in (list, tuple):
        for item in value:
            yield from _arrays(item)
    elif is_cache(value):
        for item in vars(value).values():
            yield from _arrays(item)


def advance(cache: Any, rows: int, columns: int) -> None:
    """Let a ghost pass over `columns` tokens of `rows` sequences with one-element rows: its offset stays right."""
    if isinstance(cache, mlx_cache.CacheList):
        for part in cache.caches:
            advance(part, rows, columns)
    elif isinstance(cache, mlx_cache.ArraysCache):
        for index, value in enumerate(cache.cache):
            cache[index] = mx.zeros((rows, 1, 1), mx.float16) if value is None else value
        cache.advance(columns)
    elif hasattr(cache, "update_and_fetch"):
        if hasattr(cache, "maybe_trim_front"):
            cache.maybe_trim_front()
        row = mx.zeros((rows, 1, columns, 1), mx.float16)
        cache.update_and_fetch(row, row)
    elif isinstance(getattr(cache, "offset", None), int):
        cache.offset += columns
    else:
        raise CheckpointError(f"nothing can stand in for a cache of kind {kind(cache)}")


def trim_limit(cache: Any) -> float:
    """Up to how many tokens `cache` may hold and still forget its last ones: what a window has dropped is gone."""
    if isinstance(cache, mlx_cache.CacheList):
        return min(trim_limit(part) for part in cache.caches)
    if isinstance(cache, mlx_cache.RotatingKVCache):
        return float(cache.max_size - 1)
    if isinstance(cache, mlx_cache.ChunkedKVCache):
        return float(cache.chunk_size - 1)
    return math.inf if isinstance(cache, _PLAIN) else 0


def is_batchable(cache: Any) -> bool:
    """Whether mlx-lm can hold several sequences of unequal length in caches of this kind."""
    if isinstance(cache, mlx_cache.CacheList):
        return all(is_batchable(part) for part in cache.caches)
    return hasattr(cache, "merge")


def _settled(*caches: Any) -> Any:
    """The first of `caches`, after all of them have the rows that their tokens need, and are computed.

    mlx-lm's caches grow by 256 rows from wherever they stand; from a multiple of it they hold what was planned. Left
    lazy, a change would hold what it was made from, and all layers changed at once would need twice the memory.
    """
    for cache in caches:
        _fit(cache)
    mx.eval([cache_arrays(cache) for cache in caches])
    return caches[0]


def _fit(cache: Any) -> None:
    """Make `cache` as wide as its tokens rounded up to its step, if it is of a kind that grows without end."""
    if isinstance(cache, mlx_cache.CacheList):
        for part in cache.caches:
            _fit(part)
    growing = isinstance(cache, mlx_cache.KVCache | mlx_cache.BatchKVCache | mlx_cache.QuantizedKVCache)
    if growing and cache.keys is not None:
        used = cache._idx if isinstance(cache, mlx_cache.BatchKVCache) else cache.offset
        rows = -(-used // cache.step) * cache.step
        cache.keys = _mapped(lambda array: _of_rows(array, rows), cache.keys)
        cache.values = _mapped(lambda array: _of_rows(array, rows), cache.values)


def _of_sequences(cache: Any, count: int, rows: Sequence[int]) -> Any:
    """`cache`, which holds `count` sequences, with `rows` of them alone."""
    if len(rows) == count:
        return cache
    batch = _padded(cache, count)
    if len(rows) == 1:
        return batch.extract(rows[0])
    batch.filter(list(rows))
    return batch


def _unpadded(cache: Any) -> Any:
    """`cache`, which holds several sequences of one length: they need neither a mask nor an offset each, which cost as
    much as a tenth of a step on a fast device, so that what is a Batch cache may be one of the model's own.
    """
    if isinstance(cache, mlx_cache.CacheList):
        return mlx_cache.CacheList(*map(_unpadded, cache.caches))
    if type(cache) is not mlx_cache.BatchKVCache or cache.keys is None:
        return cache
    plain = mlx_cache.KVCache()
    plain.state = (cache.keys, cache.values, cache._idx)
    return plain


def _padded(cache: Any, count: int) -> Any:
    """The Batch cache of what `_unpadded` gave for `count` sequences, of whose lengths it knows."""
    if isinstance(cache, mlx_cache.CacheList):
        return mlx_cache.CacheList(*(_padded(part, count) for part in cache.caches))
    if type(cache) is not mlx_cache.KVCache or count == 1:
        return cache
    batch = mlx_cache.BatchKVCache([0] * count)
    batch.state = (cache.keys, cache.values, batch.offset + cache.offset, batch.left_padding, cache.offset)
    return batch


def _of_rows(array: mx.array, rows: int) -> mx.array:
    """`array` [B, H, R, D] cut or padded to `rows` of R."""
    if array.shape[2] >= rows:
        return array if array.shape[2] == rows else mx.contiguous(array[:, :, :rows])
    return mx.pad(array, [(0, 0), (0, 0), (0, rows - array.shape[2]), (0, 0)])


def _duplicate(cache: Any) -> Any:
    """Another cache of the same content. Arrays are shared until one of the two is written to."""
    duplicate = copy.copy(cache)
    if isinstance(cache, mlx_cache.CacheList):
        duplicate.caches = tuple(_duplicate(part) for part in cache.caches)
    else:
        map_cache(copy.copy, duplicate)  # writing to a slice changes the array object that is written to
    return duplicate


class ShardCache:
    """All cache slots of a model as one stage sees them, for one lane: one sequence, or several decoded together.

    Slots of own layers are real. A foreign slot is an alias of an own one of the same kind, whose offset is the same by
    construction; where no own slot has that kind, one ghost a kind stands in. So `cache[k]` is right for any k.
    One sequence has the model's own caches, several have mlx-lm's Batch caches but for those of one length, which as
    long as they stay together are one.
    """

    def __init__(self, slots: Sequence[Any], own: Sequence[int]) -> None:
        """`slots` as the model made them, for one sequence; `own` are the indices that must be real."""
        held = {kind(slots[slot]): slots[slot] for slot in reversed(own)}
        ghosts: list[Any] = []
        for slot, cache in enumerate(slots):
            if slot not in own and kind(cache) not in held:
                held[kind(cache)] = cache
                ghosts.append(cache)
        self._caches = [slots[slot] for slot in own] + ghosts
        self._own_count = len(own)
        stand_in = {name: _index(self._caches, cache) for name, cache in held.items()}
        self._places = [
            _index(self._caches, cache) if slot in own else stand_in[kind(cache)] for slot, cache in enumerate(slots)
        ]
        self.lengths = [0]

    @property
    def slots(self) -> list[Any]:
        """One cache a slot of the model, stand-ins included."""
        return [self._caches[place] for place in self._places]

    @property
    def rows(self) -> int:
        """Sequences held."""
        return len(self.lengths)

    def ghosts_in(self, args: Sequence[Any]) -> list[Any]:
        """The ghosts among a layer's arguments."""
        ghosts = self._caches[self._own_count :]
        return [cache for cache in caches_in(args) if any(cache is ghost for ghost in ghosts)] if ghosts else []

    def advanced(self, tokens: int) -> None:
        """Count `tokens` that every sequence was given."""
        self.lengths = [length + tokens for length in self.lengths]

    def arrays(self) -> list[mx.array]:
        """Every array held: evaluate them with the step's output, or the graph grows from step to step."""
        return [array for cache in self._caches for array in cache_arrays(cache)]

    @property
    def nbytes(self) -> int:
        """Bytes held, rows allocated ahead included."""
        return sum(array.nbytes for array in self.arrays())

    @property
    def is_batchable(self) -> bool:
        """Whether other sequences can join."""
        return self.rows > 1 or all(is_batchable(cache) for cache in self._caches)

    @property
    def trim_limit(self) -> float:
        """Up to how many tokens one sequence may hold and still be trimmed: 0 never, infinite always."""
        return min((trim_limit(cache) for cache in self._caches), default=math.inf)

    def trim(self, tokens: int) -> int:
        """Forget the last `tokens` tokens of the only sequence; returns how many were forgotten, 0 if it cannot."""
        if self.rows != 1 or self.lengths[0] > self.trim_limit:
            return 0
        trimmed = min(tokens, self.lengths[0])
        for cache in self._caches:
            cache.trim(trimmed)
        self.lengths = [self.lengths[0] - trimmed]
        return trimmed

    @property
    def can_step_back(self) -> bool:
        """Whether the next step, of one token a sequence, could be taken back after it was computed."""
        return max(self.lengths) < self.trim_limit

    def step_back(self) -> None:
        """Forget the last token of every sequence."""
        for cache in self._caches:
            cache.trim(1)
        self.lengths = [length - 1 for length in self.lengths]

    def mark(self) -> Callable[[], None]:
        """Remember where the caches stand; what is returned takes them back there, before a step that was built but not
        computed. Drop it before that step is computed, or the caches are copied, as two then hold what they were.
        """
        caches, lengths = list(map(_duplicate, self._caches)), self.lengths

        def back() -> None:
            self._caches, self.lengths = caches, lengths

        return back

    def copy(self, tokens: int) -> ShardCache | None:
        """The first `tokens` tokens of the only sequence once more; None if caches cannot forget those behind."""
        other = self._with([_duplicate(cache) for cache in self._caches], list(self.lengths))
        surplus = self.lengths[0] - tokens
        if surplus and other.trim(surplus) != surplus:
            return None
        for cache in other._caches:
            _settled(cache)
        return other

    def quantize(self, bits: int, group_size: int) -> None:
        """Hold keys and values of own layers in `bits`. Raises CheckpointError for a kind of cache that cannot."""
        for place, cache in enumerate(self._caches[: self._own_count]):
            if type(cache) is not mlx_cache.KVCache:
                raise CheckpointError(
                    f"kv_bits: this model's caches of kind {kind(cache)} cannot be quantized",
                    hint="leave kv_bits out of the profile",
                )
            self._caches[place] = cache.to_quantized(group_size=group_size, bits=bits)

    def join(self, others: Sequence[ShardCache]) -> None:
        """Take the sequences of `others`, which must not be used afterwards, behind the own ones."""
        lengths = [length for cache in (self, *others) for length in cache.lengths]
        for place, cache in enumerate(self._caches):
            parts = [(cache, self.rows), *((other._caches[place], other.rows) for other in others)]
            self._caches[place] = _settled(_shaped(_joined(parts), lengths))
            for other in others:
                other._caches[place] = None
        self.lengths = lengths

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all sequences but `rows` (ascending, never empty)."""
        lengths = [self.lengths[row] for row in rows]
        for place, cache in enumerate(self._caches):
            self._caches[place] = _settled(_shaped(_of_sequences(cache, self.rows, rows), lengths))
        self.lengths = lengths

    def split(self, rows: Sequence[int]) -> ShardCache:
        """Take the sequences `rows` (ascending, some but not all) out; they are returned."""
        rest = [row for row in range(self.rows) if row not in rows]
        lengths, left = [self.lengths[row] for row in rows], [self.lengths[row] for row in rest]
        taken = []
        for place, cache in enumerate(self._caches):
            taken.append(_shaped(_of_sequences(_duplicate(cache), self.rows, rows), lengths))
            self._caches[place] = _shaped(_of_sequences(cache, self.rows, rest), left)
            _settled(taken[-1], self._caches[place])
        self.lengths = left
        return self._with(taken, lengths)

    def _with(self, caches: list[Any], lengths: list[int]) -> ShardCache:
        other = copy.copy(self)
        other._caches, other.lengths = caches, lengths
        return other


def _index(caches: Sequence[Any], cache: Any) -> int:
    return next(index for index, held in enumerate(caches) if held is cache)


def _shaped(cache: Any, lengths: Sequence[int]) -> Any:
    """`cache`, which holds sequences of `lengths`, in the form that costs least."""
    return _unpadded(cache) if len(lengths) > 1 and len(set(lengths)) == 1 else cache


def _joined(parts: Sequence[tuple[Any, int]]) -> Any:
    """One Batch cache of `parts`, caches of one kind with the number of sequences in each, in order.

    Runs of single sequences are merged at once: one copy rather than one for each.
    """
    parts = [(_padded(cache, rows), rows) for cache, rows in parts]
    batches = []
    for is_single, run in groupby(parts, lambda part: part[1] == 1):
        caches = [cache for cache, _ in run]
        batches.extend([caches[0].merge(caches)] if is_single else caches)
    for other in batches[1:]:
        batches[0].extend(other)
    return batches[0]
