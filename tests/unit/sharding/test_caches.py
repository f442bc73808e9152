"""The caches of one stage: real ones, aliases and ghosts."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, KVCache, RotatingKVCache

from mlxctl.errors import CheckpointError
from mlxctl.sharding.caches import ShardCache, advance, cache_arrays, caches_in, kind, map_cache

pytestmark = pytest.mark.unit

ROW = mx.zeros((1, 2, 3, 4))


def test_own_slots_are_real_and_foreign_ones_alias_one_of_their_kind() -> None:
    slots = [KVCache(), RotatingKVCache(8), KVCache(), RotatingKVCache(8)]
    cache = ShardCache(slots, (2, 3))
    assert cache.slots == [slots[2], slots[3], slots[2], slots[3]]


def test_a_kind_that_no_own_slot_has_gets_one_ghost() -> None:
    slots = [KVCache(), RotatingKVCache(8), RotatingKVCache(8), KVCache()]
    cache = ShardCache(slots, (3,))
    assert cache.slots == [slots[3], slots[1], slots[1], slots[3]]
    assert cache.ghosts_in([None, slots[1], [slots[3]]]) == [slots[1]]


def test_windows_of_different_sizes_are_different_kinds() -> None:
    assert kind(RotatingKVCache(8)) != kind(RotatingKVCache(16))
    assert kind(CacheList(KVCache(), RotatingKVCache(8))) != kind(CacheList(KVCache(), KVCache()))
    assert kind(ChunkedKVCache(4)) != kind(ChunkedKVCache(8))
    assert kind(ArraysCache(2)) == kind(ArraysCache(2))


@pytest.mark.parametrize("make", [KVCache, lambda: RotatingKVCache(4), lambda: ChunkedKVCache(4)])
def test_a_ghost_keeps_the_offset_of_a_real_cache(make: type[KVCache]) -> None:
    real, ghost = make(), make()
    for tokens in (3, 1, 5, 1):
        if isinstance(real, ChunkedKVCache):
            real.maybe_trim_front()
        real.update_and_fetch(mx.zeros((1, 2, tokens, 4)), mx.zeros((1, 2, tokens, 4)))
        advance(ghost, 1, tokens)
    assert ghost.offset == real.offset
    assert ghost.size() == real.size()


def test_a_ghost_of_a_list_of_caches_advances_each() -> None:
    ghost = CacheList(KVCache(), ArraysCache(2))
    advance(ghost, 2, 7)
    assert ghost[0].offset == 7
    assert [array.shape[0] for array in ghost[1].cache] == [2, 2]


def test_a_cache_that_cannot_be_imitated_is_an_error() -> None:
    class Odd:
        state: tuple[()] = ()

        def is_trimmable(self) -> bool:
            return False

    with pytest.raises(CheckpointError, match="Odd"):
        advance(Odd(), 1, 1)


def test_caches_are_found_among_arguments_and_in_lists() -> None:
    one, two, three = KVCache(), ArraysCache(1), KVCache()
    assert caches_in([mx.zeros((1,)), one, None, [two, three], [one, 5], []]) == [one, two, three]


def test_bytes_count_rows_allocated_ahead() -> None:
    real = KVCache()
    cache = ShardCache([real, KVCache()], (0,))
    assert cache.nbytes == 0
    real.update_and_fetch(ROW, ROW)
    assert cache.nbytes == 2 * (2 * 256 * 4 * 4)


def test_arrays_of_every_cache_are_found() -> None:
    states = ArraysCache(2)
    states[0], states[1] = ROW, ROW
    real = CacheList(KVCache(), states)
    real[0].update_and_fetch(ROW, ROW)
    assert len(ShardCache([real], (0,)).arrays()) == 4


def test_every_array_of_a_cache_can_be_replaced() -> None:
    states = ArraysCache(2)
    states[0], states[1] = ROW, ROW
    cache = CacheList(KVCache(), states)
    cache[0].update_and_fetch(ROW, ROW)
    map_cache(lambda array: mx.ones((7,)), cache)
    assert [array.shape for array in cache_arrays(cache)] == [(7,)] * 4


def test_trimming_forgets_the_last_tokens_of_every_cache_once() -> None:
    slots = [KVCache(), KVCache(), KVCache()]
    cache = ShardCache(slots, (0, 1))
    for slot in slots[:2]:
        slot.update_and_fetch(ROW, ROW)
    cache.advanced(3)
    assert cache.trim(2) == 2
    assert (slots[0].offset, slots[1].offset, cache.lengths) == (1, 1, [1])
    assert cache.trim(5) == 1


def test_a_window_that_has_wrapped_cannot_be_trimmed() -> None:
    window = RotatingKVCache(4)
    cache = ShardCache([window], (0,))
    assert cache.trim_limit == 3
    window.update_and_fetch(mx.zeros((1, 2, 6, 4)), mx.zeros((1, 2, 6, 4)))
    cache.advanced(6)
    assert cache.trim(1) == 0


def test_caches_tell_up_to_where_they_can_forget_and_whether_others_can_join() -> None:
    assert ShardCache([KVCache(), CacheList(KVCache(), RotatingKVCache(8))], (0, 1)).trim_limit == 7
    assert ShardCache([KVCache(), ArraysCache(2)], (0, 1)).trim_limit == 0
    assert ShardCache([KVCache(), ArraysCache(2)], (0, 1)).is_batchable
    assert not ShardCache([KVCache(), ChunkedKVCache(4)], (0,)).is_batchable


def test_sequences_of_one_length_share_a_plain_cache_until_one_of_another_joins() -> None:
    def of(tokens: int) -> ShardCache:
        plain = KVCache()
        plain.update_and_fetch(mx.ones((1, 2, tokens, 4)), mx.ones((1, 2, tokens, 4)))
        cache = ShardCache([plain], (0,))
        cache.advanced(tokens)
        return cache

    lane = of(3)
    lane.join([of(3), of(3)])
    assert (type(lane.slots[0]), lane.slots[0].offset) == (KVCache, 3)
    assert lane.slots[0].make_mask(1, return_array=False, window_size=None) is None
    lane.join([of(5)])
    assert lane.slots[0].left_padding.tolist() == [2, 2, 2, 0]
    lane.keep([0, 1])
    assert (type(lane.slots[0]), lane.slots[0].offset, lane.slots[0].keys.shape[0]) == (KVCache, 3, 2)


def test_a_step_that_was_built_for_nothing_leaves_windows_and_their_padding_as_they_were() -> None:
    def window(tokens: int) -> ShardCache:
        one = RotatingKVCache(4)
        one.update_and_fetch(mx.ones((1, 2, tokens, 4)), mx.ones((1, 2, tokens, 4)))
        cache = ShardCache([one], (0,))
        cache.advanced(tokens)
        return cache

    def step(value: int) -> None:
        row = mx.full((2, 2, 1, 4), value)
        lane.slots[0].update_and_fetch(row, row)

    lane = window(4)
    lane.join([window(1)])
    for value in range(3):
        step(value)
        mx.eval(lane.arrays())
    before = [array.tolist() for array in lane.arrays()]
    undo = lane.mark()
    step(99)
    undo()
    assert [array.tolist() for array in lane.arrays()] == before
