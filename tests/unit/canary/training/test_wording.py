"""Noise changes how a request looks, never what it asks for."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.canary.training.wording import casual, joined_with_and, worded, wrapped

pytestmark = pytest.mark.unit


@given(st.integers(0, 10_000))
def test_casual_leaves_the_slots_alone(seed: int) -> None:
    noisy = casual(Random(seed), "Please tell {name} that {value} is nice.")
    assert "{name}" in noisy
    assert "{value}" in noisy
    assert noisy.index("{name}") < noisy.index("{value}")


@given(st.integers(0, 10_000))
def test_values_are_never_mistyped(seed: int) -> None:
    assert "CORRECT HORSE" in worded(Random(seed), ["Spell {word} for me."], 1, word="CORRECT HORSE")


@given(st.integers(0, 10_000))
def test_small_words_around_a_request_keep_its_words(seed: int) -> None:
    assert "count to 10" in wrapped(Random(seed), "Count to 10.").lower()


def test_lists_end_with_and() -> None:
    assert joined_with_and(["a"]) == "a"
    assert joined_with_and(["a", "b", "c"]) == "a, b and c"
