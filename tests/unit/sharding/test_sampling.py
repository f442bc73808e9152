"""Drawing tokens: mlx-lm's semantics, the softmax's frequencies, and the same token for the same seed and position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, make_logits_processors, make_sampler

from mlxctl.request import Sampling
from mlxctl.sharding.filters import CANDIDATES, Filters, choose_from_all
from mlxctl.sharding.penalties import penalized
from mlxctl.sharding.sampling import _uniform, sample

pytestmark = pytest.mark.unit

DRAWS = 4000
Recent = Sequence[Sequence[int]]
LOGITS = mx.array([[2.0, 1.5, 1.0, 0.2, 0.0, -0.5, -1.0, -3.0]])


def drawn(logits: mx.array, rows: Sequence[Sampling], positions: Sequence[int], recent: Recent = ()) -> list[int]:
    result = sample(logits, rows, positions, recent)
    mx.eval(result.arrays)
    return result.tokens()


def draw(logits: mx.array, sampling: Sampling, positions: range) -> list[int]:
    return drawn(mx.repeat(logits, len(positions), axis=0), [sampling] * len(positions), positions)


def chi_square_limit(degrees: int) -> float:
    """The 99.99 % quantile (Wilson-Hilferty): a right sampler exceeds it once in 10,000 seeds; ours is fixed."""
    return float(degrees * (1 - 2 / (9 * degrees) + 3.719 * math.sqrt(2 / (9 * degrees))) ** 3)


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0])
def test_draws_are_distributed_as_the_softmax_says(temperature: float) -> None:
    tokens = draw(LOGITS, Sampling(temperature=temperature, seed=11), range(DRAWS))
    expected = np.array(mx.softmax(LOGITS[0] / temperature)) * DRAWS
    counts = np.bincount(tokens, minlength=expected.size)
    common = expected >= 5  # rarer tokens are counted together
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    keep = wanted > 0.5
    chi_square = float((((observed - wanted) ** 2) / np.maximum(wanted, 1e-9))[keep].sum())
    assert chi_square < chi_square_limit(int(keep.sum()) - 1)


def test_the_same_seed_and_position_draw_the_same_token() -> None:
    sampling = Sampling(temperature=1.0, seed=5)
    assert draw(LOGITS, sampling, range(50)) == draw(LOGITS, sampling, range(50))


def test_another_seed_or_position_draws_anew() -> None:
    one, other = Sampling(temperature=1.0, seed=5), Sampling(temperature=1.0, seed=6)
    assert draw(LOGITS, one, range(50)) != draw(LOGITS, other, range(50))
    assert draw(LOGITS, one, range(50)) != draw(LOGITS, one, range(1, 51))
    assert draw(LOGITS, one, range(1, 51)) != draw(LOGITS, other, range(50))


def test_drawing_leaves_the_global_random_state_alone() -> None:
    mx.random.seed(3)
    expected = mx.random.uniform(shape=(4,)).tolist()
    mx.random.seed(3)
    drawn(LOGITS, [Sampling(temperature=1.0, top_k=3, top_p=0.9, min_p=0.01)], [0])
    assert mx.random.uniform(shape=(4,)).tolist() == expected


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    top_k=st.integers(0, 10),
    top_p=st.sampled_from([1.0, 0.9, 0.5]),
    min_p=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**64 - 1),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(samplings, min_size=1, max_size=4), st.integers(0, 1000))
def test_a_row_draws_the_same_token_whoever_stands_beside_it(rows: list[Sampling], position: int) -> None:
    logits = mx.random.normal((len(rows), 8), key=mx.random.key(1))
    positions = [position + 7 * index for index in range(len(rows))]
    together = drawn(logits, rows, positions)
    alone = [drawn(logits[i : i + 1], rows[i : i + 1], positions[i : i + 1])[0] for i in range(len(rows))]
    assert together == alone


def test_tokens_that_are_fed_back_before_they_are_known_are_those_drawn() -> None:
    rows = [Sampling(temperature=1.0, seed=3), Sampling(), Sampling(temperature=0.7, seed=4), Sampling()]
    draw = sample(mx.random.normal((4, 50), key=mx.random.key(1)), rows, [5, 6, 7, 8])
    lazy = draw.lazy_tokens()
    assert lazy is not None
    mx.eval(draw.arrays, lazy)
    assert (lazy.tolist(), lazy.dtype) == (draw.tokens(), mx.int32)


def test_tokens_that_may_have_to_be_drawn_again_are_not_fed_back_before_they_are_known() -> None:
    filtered = Sampling(temperature=1.0, top_p=0.9, seed=3)
    assert sample(mx.zeros((1, 2 * CANDIDATES)), [filtered], [5]).lazy_tokens() is None


def test_temperature_zero_takes_what_mlx_lm_takes() -> None:
    logits = mx.random.normal((64, 100), key=mx.random.key(0)).astype(mx.bfloat16)
    greedy = make_sampler(temp=0)
    theirs = [
        greedy(row - mx.logsumexp(row, keepdims=True)).item() for row in (logits[i : i + 1] for i in range(len(logits)))
    ]
    assert drawn(logits, [Sampling()] * 64, range(64)) == theirs


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, top_k=3),
        Sampling(temperature=1.0, top_p=0.6),
        Sampling(temperature=1.0, min_p=0.2),
        Sampling(temperature=2.0, top_k=4, top_p=0.9, min_p=0.05),
    ],
)
def test_filters_leave_the_tokens_that_mlx_lm_leaves(sampling: Sampling) -> None:
    theirs = make_sampler(sampling.temperature, sampling.top_p, sampling.min_p, top_k=sampling.top_k)
    logprobs = LOGITS - mx.logsumexp(LOGITS, axis=-1, keepdims=True)
    mx.random.seed(0)
    possible = {theirs(logprobs).item() for _ in range(600)}
    assert set(draw(LOGITS, sampling, range(600))) == possible


def test_a_top_k_beyond_the_vocabulary_is_off() -> None:
    tokens = draw(LOGITS, Sampling(temperature=1.0, top_k=100, seed=1), range(40))
    assert tokens == draw(LOGITS, Sampling(temperature=1.0, seed=1), range(40))


def wide(rows: int, spread: float) -> mx.array:
    """Logits over more tokens than the filters look at first."""
    return mx.random.normal((rows, 3 * CANDIDATES), key=mx.random.key(4)) * spread


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.8, top_p=0.9, seed=3),
        Sampling(temperature=1.0, min_p=0.05, seed=3),
        Sampling(temperature=1.3, top_k=40, top_p=0.99, seed=3),
        Sampling(temperature=1.0, xtc_probability=0.5, xtc_threshold=0.01, seed=3),
    ],
)
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])  # nearly even: far more tokens than are looked at first
def test_the_likeliest_tokens_give_the_draw_that_all_tokens_give(sampling: Sampling, spread: float) -> None:
    logits = wide(8, spread)
    logprobs = np.asarray(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    filters = Filters.of(
        [sampling] * 8,
        [_uniform(sampling.seed, position) for position in range(8)],
        [_uniform(sampling.seed, position, 1) for position in range(8)],
        logits.shape[-1],
    )
    expected = [choose_from_all(logprobs[row], filters.row(row)) for row in range(8)]
    assert drawn(logits, [sampling] * 8, range(8)) == expected


def test_filters_leave_the_same_tokens_of_a_large_vocabulary_as_mlx_lm_does() -> None:
    logits = wide(1, 3.0)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    allowed = np.isfinite(np.asarray(apply_top_k(apply_min_p(apply_top_p(logprobs, 0.8), 0.001), 150)[0]))
    tokens = draw(logits, Sampling(temperature=3.0, top_p=0.8, min_p=0.001, top_k=150), range(400))
    assert allowed[tokens].all()
    assert len(set(tokens)) > 0.7 * allowed.sum()


def test_xtc_takes_away_all_likely_tokens_but_the_least_likely_of_them() -> None:
    always = Sampling(temperature=1.0, xtc_probability=1.0, xtc_threshold=0.12)
    assert (np.asarray(mx.softmax(LOGITS[0])) > 0.12).tolist()[:4] == [True, True, True, False]
    assert not {0, 1} & set(draw(LOGITS, always, range(200)))
    assert {2, 3, 4} <= set(draw(LOGITS, always, range(200)))
    assert 0 in draw(LOGITS, replace(always, xtc_kept_ids=(0,)), range(200))
    half = draw(LOGITS, replace(always, xtc_probability=0.5), range(400))
    assert 0 < half.count(0) < draw(LOGITS, replace(always, xtc_probability=0.0), range(400)).count(0)


@pytest.mark.parametrize(
    ("sampling", "options"),
    [
        (Sampling(logit_bias=((3, 4.0), (0, -2.0))), {"logit_bias": {3: 4.0, 0: -2.0}}),
        (Sampling(repetition_penalty=1.7), {"repetition_penalty": 1.7}),
        (Sampling(presence_penalty=1.2), {"presence_penalty": 1.2}),
        (Sampling(frequency_penalty=0.7), {"frequency_penalty": 0.7}),
        (
            Sampling(logit_bias=((1, 1.0),), repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=-0.4),
            {
                "logit_bias": {1: 1.0},
                "repetition_penalty": 1.3,
                "presence_penalty": 0.5,
                "frequency_penalty": -0.4,
            },
        ),
    ],
)
def test_bias_and_penalties_are_those_of_mlx_lm(sampling: Sampling, options: dict[str, Any]) -> None:
    recent = [0, 1, 1, 1, 6, 0]
    expected = mx.array(LOGITS)
    for processor in make_logits_processors(**options):
        expected = processor(mx.array(recent), expected)
    assert mx.allclose(penalized(LOGITS, [sampling], [recent]), expected, atol=1e-6).item()


def test_a_penalty_is_its_rows_own_and_looks_back_as_far_as_it_says() -> None:
    rows = [Sampling(), Sampling(presence_penalty=100.0, repetition_context=2)]
    logits = mx.repeat(LOGITS, 2, axis=0)
    assert drawn(logits, rows, [0, 0], [[0], [0, 1, 2]]) == [0, 0]
    assert drawn(logits, rows, [0, 0], [[0], [1, 0, 2]]) == [0, 1]


def test_log_probabilities_are_those_of_the_softmax_after_penalties() -> None:
    rows = [Sampling(top_logprobs=2), Sampling(), Sampling(logit_bias=((7, 9.0),), top_logprobs=0)]
    result = sample(mx.repeat(LOGITS, 3, axis=0), rows, [0, 0, 0])
    mx.eval(result.arrays)
    tokens = result.tokens()
    first, none, biased = result.logprobs(tokens)
    expected = np.log(np.asarray(mx.softmax(LOGITS[0])))
    assert first is not None and biased is not None and none is None
    assert (first.token, [token for token, _ in first.top]) == (0, [0, 1])
    assert first.logprob == pytest.approx(expected[0], abs=1e-5)
    assert [value for _, value in first.top] == pytest.approx(expected[:2], abs=1e-5)
    assert (biased.token, biased.top) == (7, ())
    assert biased.logprob > -0.1
