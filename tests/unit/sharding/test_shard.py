"""One stage of a model: what it accepts, what it refuses, and its warm-up."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from mlxctl.errors import CheckpointError, CorruptFrame, IllegalCut
from mlxctl.sharding.boundary import Boundary
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.sharding.shard import Shard
from tests.tiny_models import CONFIGS, LAYERS, random_model

pytestmark = pytest.mark.unit

TOKENS = mx.array([[1, 2, 3]])
HIDDEN = mx.zeros((1, 3, 64))


def shard(start: int, stop: int, architecture: str = "qwen3") -> Shard:
    model = random_model({"model_type": architecture, **CONFIGS[architecture]})
    return Shard(model, start, stop, LayerMap.of(model))


def test_a_stage_knows_its_place() -> None:
    first, last = shard(0, 3), shard(3, LAYERS)
    assert (first.is_first, first.is_last, first.layer_count) == (True, False, LAYERS)
    assert (last.is_first, last.is_last) == (False, True)
    assert str(last) == "stage [3, 8)"


def test_only_the_last_stage_returns_logits() -> None:
    first, last = shard(0, 3), shard(3, LAYERS)
    out = first.forward(TOKENS, None, first.make_cache())
    assert out.logits is None
    assert out.boundary is not None
    logits = last.forward(TOKENS, out.boundary, last.make_cache()).logits
    assert logits is not None
    assert logits.shape == (1, 3, 512)


@pytest.mark.parametrize("tokens", [mx.array([1, 2]), mx.zeros((1, 0), mx.int32), mx.zeros((1, 3)), mx.array([[[1]]])])
def test_tokens_of_another_form_are_refused(tokens: Any) -> None:
    stage = shard(0, 3)
    with pytest.raises(CorruptFrame, match=r"stage \[0, 3\): tokens"):
        stage.forward(tokens, None, stage.make_cache())


def test_the_first_stage_takes_no_activation() -> None:
    stage = shard(0, 3)
    with pytest.raises(CorruptFrame, match=r"stage \[0, 3\): the first stage"):
        stage.forward(TOKENS, Boundary(HIDDEN), stage.make_cache())


def test_the_others_need_one() -> None:
    stage = shard(3, 5)
    with pytest.raises(CorruptFrame, match=r"stage \[3, 5\): there is no activation"):
        stage.forward(TOKENS, None, stage.make_cache())


@pytest.mark.parametrize("shape", [(1, 3, 63), (1, 2, 64), (3, 64), (2, 3, 64)])
def test_an_activation_of_another_shape_is_refused_by_its_stage(shape: tuple[int, ...]) -> None:
    stage = shard(3, 5)
    with pytest.raises(CorruptFrame, match=r"stage \[3, 5\): the activation has shape"):
        stage.forward(TOKENS, Boundary(mx.zeros(shape)), stage.make_cache())


def test_a_refused_step_leaves_the_cache_as_it_was() -> None:
    stage = shard(3, 5)
    cache = stage.make_cache()
    with pytest.raises(CorruptFrame):
        stage.forward(TOKENS, Boundary(mx.zeros((1, 3, 1))), cache)
    assert (cache.lengths, cache.nbytes) == ([0], 0)


def test_a_model_that_skips_layers_is_found_out() -> None:
    stage = shard(0, 3)
    stage.model.layers.pop(1)
    with pytest.raises(CheckpointError, match=r"stage \[0, 3\): the model called 2 of its 3 layers"):
        stage.forward(TOKENS, None, stage.make_cache())


def test_a_stage_that_is_no_range_of_layers_is_refused() -> None:
    with pytest.raises(IllegalCut):
        shard(5, 9)


def test_a_step_does_not_change_the_activation_it_received() -> None:
    stage = shard(3, 5)
    inbox = Boundary(mx.ones((1, 3, 64)))
    results = [stage.forward(TOKENS, inbox, stage.make_cache()).boundary for _ in range(2)]
    assert mx.array_equal(*(result.value for result in results if result)).item()
    assert mx.array_equal(inbox.value, mx.ones((1, 3, 64))).item()


def test_the_cache_counts_tokens_and_holds_own_layers_alone() -> None:
    stage = shard(3, 5)
    cache = stage.make_cache()
    stage.forward(TOKENS, Boundary(HIDDEN), cache)
    assert cache.lengths == [3]
    assert cache.nbytes == 2 * 2 * (2 * 256 * 16 * 4)  # layers, keys and values, heads x rows x size x float32


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize(("start", "stop"), [(0, 8), (0, 2), (2, 5), (5, 8)])
def test_every_stage_warms_up_without_its_neighbours(architecture: str, start: int, stop: int) -> None:
    shard(start, stop, architecture).warm_up()


def test_a_ghost_costs_little() -> None:
    stage = shard(0, 2, "gemma3_text")  # windowed layers only: the full cache is a ghost
    cache = stage.make_cache()
    out = stage.forward(mx.zeros((1, 300), mx.int32), None, cache)
    mx.eval(out.arrays(), cache.arrays())
    ghosts = cache.nbytes - 2 * 2 * (2 * 300 * 16 * 4)
    assert 0 < ghosts < 8 * 512
