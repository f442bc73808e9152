"""Predicted speeds follow the law of pipelines."""

from __future__ import annotations

from typing import Any

import pytest

from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan import make_plan
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


def test_many_streams_go_as_fast_as_the_slowest_stage() -> None:
    assert predicted("a", 8).all_lanes.tokens_per_s == pytest.approx(1 / 8, rel=1e-3)
    assert predicted("abcd", 8).all_lanes.tokens_per_s == pytest.approx(1 / 2, rel=1e-3)


def test_fewer_streams_than_stages_leave_stages_idle() -> None:
    assert predicted("abcd", 2).all_lanes.tokens_per_s == pytest.approx(2 / 8, rel=1e-3)


def test_the_bound_names_the_stage_that_limits_all_lanes() -> None:
    rate = predicted("ab", 8).all_lanes
    assert (rate.bound, rate.stage) == ("memory bandwidth", 0)


def test_chunks_of_a_prompt_follow_each_other_through_the_stages() -> None:
    one, four = predicted("a", 1, flops=1e9), predicted("abcd", 1, flops=1e9)
    assert one.prompt_tokens == four.prompt_tokens == 512
    chunks = 2  # of 256 tokens: the first passes four stages, the second follows one stage behind
    assert four.prefill.tokens_per_s / one.prefill.tokens_per_s == pytest.approx(chunks / (1 + 1 / 4), rel=1e-3)


def test_the_first_token_comes_after_the_prompt_and_one_step() -> None:
    prediction = predicted("ab", 1, flops=1e9)
    expected = prediction.prompt_tokens / prediction.prefill.tokens_per_s + 1 / prediction.one_stream.tokens_per_s
    assert prediction.ttft_s == pytest.approx(expected)


def test_processes_of_one_gpu_gain_nothing_together() -> None:
    nodes = [slow_node(name, host_id="here") for name in "ab"]
    model = even_model()
    prediction = predict(make_plan(a_profile(["a", "b"], concurrency=8), nodes, model), nodes, model)
    assert prediction.all_lanes.tokens_per_s == pytest.approx(1 / 8, rel=1e-2)


def test_tiny_models_are_bound_by_hops() -> None:
    nodes = [a_node(name) for name in "ab"]
    model = a_model(layer_bytes=1, head_bytes=0)
    prediction = predict(make_plan(a_profile(["a", "b"]), nodes, model), nodes, model)
    assert prediction.one_stream.bound == "hops"
