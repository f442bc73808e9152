"""Predicted speeds follow the law of pipelines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlxctl.coordinator import pacing
from mlxctl.coordinator.step_times import CHUNKS
from mlxctl.facts import BATCH_TOKENS, CHUNK_TOKENS, ModelFacts, NodeFacts
from mlxctl.plan import make_plan, prediction
from mlxctl.plan.prediction import Prediction, predict
from tests.plans import MIB, a_model, a_node, a_profile

pytestmark = pytest.mark.unit

MEASURED = {"bandwidth_bytes_per_s": "measured", "flops": "measured"}


def slow_node(name: str, **changes: Any) -> NodeFacts:
    """100 MiB and 100 Mi operations a second: a layer takes a second a token, hops are nothing beside it."""
    return a_node(name, bandwidth=100.0 * MIB, sources=MEASURED, link_latency_s=1e-9, link_bytes_per_s=1e12, **changes)


def even_model() -> ModelFacts:
    return a_model(token_bytes=0, head_bytes=0, embedding_bytes=0)


def predicted(names: str, concurrency: int, **changes: Any) -> Prediction:
    nodes = [slow_node(name, **changes) for name in names]
    model = even_model()
    return predict(make_plan(a_profile(list(names), concurrency=concurrency), nodes, model), nodes, model)


def test_one_stream_is_as_fast_on_four_nodes_as_on_one() -> None:
    assert predicted("a", 1).one_stream.tokens_per_s == pytest.approx(1 / 8, rel=1e-3)
    assert predicted("abcd", 1).one_stream.tokens_per_s == pytest.approx(1 / 8, rel=1e-3)


def test_streams_that_compute_binds_go_as_fast_as_the_slowest_stage() -> None:
    one, four = predicted("a", 8, flops=1e6), predicted("abcd", 8, flops=1e6)
    assert four.all_lanes.tokens_per_s / one.all_lanes.tokens_per_s == pytest.approx(4, rel=1e-3)
    assert one.all_lanes.tokens_per_s == pytest.approx(one.one_stream.tokens_per_s, rel=1e-3)


def test_streams_that_reading_weights_binds_share_what_is_read() -> None:
    assert predicted("a", 8).all_lanes.tokens_per_s == pytest.approx(8 / 8, rel=1e-3)
    assert predicted("abcd", 8).all_lanes.tokens_per_s == pytest.approx(8 / 8, rel=1e-3)


def test_a_batch_costs_what_was_measured_of_one() -> None:
    operations = 2 * 8 * 100 * MIB * BATCH_TOKENS
    found = predicted("a", BATCH_TOKENS, batch_flops=operations / 20)  # 20 s, where reading takes 8
    assert found.all_lanes.tokens_per_s == pytest.approx(BATCH_TOKENS / 20, rel=1e-3)


def test_models_that_cannot_be_batched_have_a_lane_for_each_stream() -> None:
    nodes, model = [slow_node("a")], replace(even_model(), is_batchable=False)
    found = predict(make_plan(a_profile(["a"], concurrency=8), nodes, model), nodes, model)
    assert found.all_lanes.tokens_per_s == pytest.approx(1 / 8, rel=1e-3)


def test_fewer_streams_than_stages_leave_stages_idle() -> None:
    assert predicted("abcd", 2, flops=1e6).all_lanes.tokens_per_s == pytest.approx(
        2 * predicted("abcd", 1, flops=1e6).all_lanes.tokens_per_s, rel=1e-3
    )


def test_stages_of_a_line_have_rested_and_one_alone_has_not() -> None:
    assert predicted("a", 1, rested_s=1.0).one_stream.tokens_per_s == pytest.approx(1 / 8, rel=1e-3)
    assert predicted("abcd", 1, rested_s=1.0).one_stream.tokens_per_s == pytest.approx(1 / (8 + 4), rel=1e-3)


def test_lanes_and_chunks_are_as_many_and_as_large_as_the_coordinator_makes_them() -> None:
    assert (prediction.LANES_PER_STAGE, prediction.BETTER) == (pacing.LANES_PER_STAGE, pacing.BETTER)
    ladder = tuple(size for size in CHUNKS if size.bit_count() == 1 and size >= pacing.LEAST_CHUNK_ALONE)
    assert ladder[: len(prediction.CHUNK_SIZES)] == prediction.CHUNK_SIZES
    assert prediction.CHUNK_SIZES[-1] == max(CHUNK_TOKENS.values())


def test_the_bound_names_the_stage_that_limits_all_lanes() -> None:
    rate = predicted("ab", 8).all_lanes
    assert (rate.bound, rate.stage) == ("memory bandwidth", 0)


def test_chunks_of_a_prompt_follow_each_other_through_the_stages() -> None:
    one, four = predicted("a", 1, flops=1e9), predicted("abcd", 1, flops=1e9)
    assert one.prompt_tokens == four.prompt_tokens == 512
    chunks = 4  # of 128 tokens: the first passes four stages, each further one follows one stage behind
    assert four.prefill.tokens_per_s / one.prefill.tokens_per_s == pytest.approx(chunks / (1 + 3 / 4), rel=1e-3)


def test_chunks_are_large_where_each_reads_all_weights() -> None:
    one = predicted("a", 1, flops=1e15)
    assert one.prefill.tokens_per_s == pytest.approx(512 / 8, rel=1e-3)


def test_the_first_token_comes_after_the_prompt_and_one_step() -> None:
    found = predicted("ab", 1, flops=1e9)
    expected = found.prompt_tokens / found.prefill.tokens_per_s + 1 / found.one_stream.tokens_per_s
    assert found.ttft_s == pytest.approx(expected)


def test_processes_of_one_gpu_gain_nothing_together() -> None:
    nodes = [slow_node(name, host_id="here") for name in "ab"]
    model = even_model()
    found = predict(make_plan(a_profile(["a", "b"], concurrency=8), nodes, model), nodes, model)
    assert found.all_lanes.tokens_per_s == pytest.approx(1, rel=1e-2)


def test_tiny_models_are_bound_by_hops() -> None:
    nodes = [a_node(name) for name in "ab"]
    model = a_model(layer_bytes=1, head_bytes=0)
    found = predict(make_plan(a_profile(["a", "b"]), nodes, model), nodes, model)
    assert found.one_stream.bound == "hops"


SLOW_LINK_BYTES_PER_S = 62_500.0


def over_a_slow_link(names: str, concurrency: int) -> Prediction:
    """Fast nodes with 8 KiB a token to carry between each two of them."""
    nodes = [a_node(name, link_bytes_per_s=SLOW_LINK_BYTES_PER_S, link_latency_s=1e-3) for name in names]
    model = a_model(boundary_token_bytes=8192)
    profile = a_profile(list(names), context=2048, concurrency=concurrency)
    return predict(make_plan(profile, nodes, model), nodes, model)


def test_all_of_a_prompt_crosses_a_slow_link_before_the_first_token() -> None:
    found = over_a_slow_link("ab", 1)
    carried_s = found.prompt_tokens * 8192 / SLOW_LINK_BYTES_PER_S
    assert found.prompt_tokens == 1024
    assert carried_s < found.ttft_s < 1.05 * carried_s
    assert found.prefill.bound == "hops"


def test_streams_together_are_no_faster_than_a_link_carries_them() -> None:
    together = over_a_slow_link("ab", 8).all_lanes
    assert together.tokens_per_s == pytest.approx(SLOW_LINK_BYTES_PER_S / 8192, rel=0.3)
    assert together.tokens_per_s <= SLOW_LINK_BYTES_PER_S / 8192
    assert together.bound == "hops"


def test_a_token_crosses_one_link_less_than_there_are_stages() -> None:
    one, three = (over_a_slow_link(names, 1).one_stream.tokens_per_s for names in ("ab", "abc"))
    assert 1 / three - 1 / one == pytest.approx(8192 / SLOW_LINK_BYTES_PER_S, rel=0.05)
    assert 1 / one == pytest.approx(8192 / SLOW_LINK_BYTES_PER_S, rel=0.2)
