"""Held sequences by their tokens: the longest shared beginning is found, nothing is found that is not there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.coordinator.prefix_cache import Held, PrefixCache

pytestmark = pytest.mark.unit

token_runs = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def filled(*runs: tuple[int, ...], trim_limit: float = math.inf) -> PrefixCache:
    cache = PrefixCache(trim_limit)
    for handle, tokens in enumerate(runs):
        cache.add(Held(handle, tokens))
    return cache


def test_a_prompt_that_goes_on_from_a_held_sequence_uses_all_of_it() -> None:
    cache = filled((1, 2, 3))
    assert cache.find((1, 2, 3, 4)) == (Held(0, (1, 2, 3)), 3)


def test_a_prompt_that_parts_from_a_held_sequence_uses_what_they_share() -> None:
    cache = filled((1, 2, 3, 4), (1, 9))
    assert cache.find((1, 2, 7)) == (Held(0, (1, 2, 3, 4)), 2)


def test_a_prompt_that_shares_nothing_finds_nothing() -> None:
    assert filled((1, 2)).find((2, 1)) is None
    assert PrefixCache().find((1,)) is None


def test_caches_that_cannot_forget_are_found_whole_or_not_at_all() -> None:
    cache = filled((1, 2), (1, 2, 3, 4), trim_limit=0)
    assert cache.find((1, 2, 3)) == (Held(0, (1, 2)), 2)
    assert cache.find((1,)) is None


def test_a_longer_sequence_makes_its_beginnings_useless_where_it_can_be_cut() -> None:
    cache = filled((1, 2))
    assert cache.add(Held(7, (1, 2, 3))) == [Held(0, (1, 2))]
    assert [held.handle for held in cache] == [7]
    kept = filled((1, 2), trim_limit=0)
    assert kept.add(Held(7, (1, 2, 3))) == []
    assert len(kept) == 2


def test_the_oldest_is_the_one_not_used_for_longest() -> None:
    cache = filled((1, 2), (3, 4))
    cache.find((1, 2, 5))
    assert cache.oldest() == Held(1, (3, 4))


@given(st.lists(token_runs, max_size=12), st.data())
def test_what_is_found_is_the_longest_beginning_that_any_held_sequence_shares(
    runs: list[tuple[int, ...]], data: st.DataObject
) -> None:
    cache = filled(*runs)
    for held in list(cache):
        if data.draw(st.booleans()):
            cache.remove(held)
    wanted = data.draw(token_runs)
    found = cache.find(wanted)
    longest = max((common(held.tokens, wanted) for held in cache), default=0)
    assert (found[1] if found else 0) == longest
    assert found is None or common(found[0].tokens, wanted) == longest


@given(st.lists(token_runs, max_size=12), token_runs)
def test_uncut_caches_are_found_only_as_whole_beginnings(runs: list[tuple[int, ...]], wanted: tuple[int, ...]) -> None:
    cache = filled(*runs, trim_limit=0)
    found = cache.find(wanted)
    whole = [held for held in cache if wanted[: len(held.tokens)] == held.tokens]
    assert (found[1] if found else 0) == max((len(held.tokens) for held in whole), default=0)
