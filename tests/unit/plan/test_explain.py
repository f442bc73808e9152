"""What is said of a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlxctl.errors import UsageError
from mlxctl.facts import ModelFacts
from mlxctl.plan import make_plan
from mlxctl.plan.explain import Explanation, explain
from mlxctl.plan.remedies import fits, largest_concurrency, largest_context
from mlxctl.plan.report import make_report
from tests.plans import GIB, a_model, a_node, a_profile

pytestmark = pytest.mark.unit


def explained(names: str, **changes: Any) -> Explanation:
    profile = a_profile(list(names), **changes)
    nodes = [a_node(name) for name in names]
    return explain(profile, nodes, a_model(), make_plan(profile, nodes, a_model()))


def test_the_slowest_stage_is_named_with_its_time() -> None:
    reasons = explained("ab").reasons
    assert reasons[0].startswith("the slowest stage, b, is as short as can be: 6.")


def test_one_node_needs_no_reason() -> None:
    assert explained("a").reasons == ("one node holds it all",)


def test_a_pinned_node_is_named() -> None:
    assert "a is pinned to 1 layer" in explained("ab", pins={"a": 1}).reasons


def test_a_full_node_is_named() -> None:
    nodes = [a_node("small", 2 * GIB, 400e9), a_node("large", 64 * GIB)]
    profile = a_profile(["small", "large"])
    model = a_model(layer_bytes=GIB)
    reasons = explain(profile, nodes, model, make_plan(profile, nodes, model)).reasons
    assert "small is full: one layer more would not fit" in reasons
    assert not any(reason.startswith("large is full") for reason in reasons)


def test_an_unused_node_is_named_with_the_reason() -> None:
    assert (
        "b is not used: the objective is latency, and each further stage adds a hop"
        in explained("ab", objective="latency").reasons
    )


def test_impossible_cuts_are_counted_and_one_is_explained() -> None:
    model = a_model(cuts=[1, 2], illegal_cuts={cut: "layer 7 shares the KV cache of layer 2" for cut in range(3, 8)})
    profile, nodes = a_profile(["a", "b"]), [a_node("a"), a_node("b")]
    reasons = explain(profile, nodes, model, make_plan(profile, nodes, model)).reasons
    assert "5 of 7 cuts are impossible, such as before layer 3: layer 7 shares the KV cache of layer 2" in reasons


def test_budgets_say_where_they_come_from() -> None:
    assert explained("ab").limits == ("a, b may use all but the reserve",)
    nodes = [a_node("a", host_id="x"), a_node("b", host_id="x", available_bytes=GIB)]
    profile = a_profile(["a", "b"])
    limits = explain(profile, nodes, a_model(), make_plan(profile, nodes, a_model())).limits
    assert limits == ("a, b share all but the reserve",)


def test_one_stream_that_would_be_faster_on_fewer_nodes_is_mentioned() -> None:
    nodes = [a_node("slow", bandwidth=50e9), a_node("fast", bandwidth=400e9)]
    profile = a_profile(["slow", "fast"])
    fewer = explain(profile, nodes, a_model(), make_plan(profile, nodes, a_model())).fewer_nodes
    assert fewer is not None and fewer.nodes == ("fast",)


def test_equal_nodes_are_not_better_left_out() -> None:
    assert explained("ab").fewer_nodes is None


def test_the_largest_context_fits_and_the_next_does_not() -> None:
    profile, nodes, model = a_profile(["a"]), [a_node("a", 3 * GIB)], a_model(token_bytes=20_000, context_limit=100_000)
    largest = largest_context(profile, nodes, model, concurrency=2)
    assert largest % 256 == 0
    assert fits(profile, nodes, model, largest, 2)
    assert not fits(profile, nodes, model, largest + 256, 2)


def test_the_largest_context_is_never_more_than_the_model_knows() -> None:
    assert largest_context(a_profile(["a"]), [a_node("a")], a_model(context_limit=1000), 1) == 1000


def test_the_largest_concurrency_fits_and_one_more_does_not() -> None:
    profile, nodes, model = a_profile(["a"]), [a_node("a", 3 * GIB)], a_model(token_bytes=20_000)
    largest = largest_concurrency(profile, nodes, model, 1024)
    assert fits(profile, nodes, model, 1024, largest)
    assert not fits(profile, nodes, model, 1024, largest + 1)


def test_without_a_node_the_report_has_both_plans() -> None:
    nodes = [a_node(name) for name in "abc"]
    report = make_report(a_profile(["a", "b", "c"], pins={"b": 2}), nodes, a_model(), nodes, ["b"])
    assert report.plan.nodes == ("a", "c")
    assert report.before is not None and len(report.before.plan.stages) == 3
    assert report.without == ("b",)


def test_without_a_node_that_is_not_there_suggests_one_that_is() -> None:
    nodes = [a_node("mini1"), a_node("mini2")]
    with pytest.raises(UsageError) as caught:
        make_report(a_profile(["mini1", "mini2"]), nodes, a_model(), nodes, ["mini3"])
    assert "did you mean mini" in str(caught.value.hint)


def test_without_all_nodes_nothing_is_left() -> None:
    with pytest.raises(UsageError, match="no node is left"):
        make_report(a_profile(["a"]), [a_node("a")], a_model(), [a_node("a")], ["a"])


def wide_model() -> ModelFacts:
    """Layers whose work on a chunk takes far more memory than their weights."""
    model = a_model()
    return replace(model, layers=tuple(replace(layer, token_width=500_000) for layer in model.layers))


def test_working_memory_is_that_of_the_chunks_that_all_stages_compute() -> None:
    profile, nodes = a_profile(["mac", "linux"]), [a_node("mac"), a_node("linux", os="Linux")]
    plan = make_plan(profile, nodes, wide_model())
    working = explain(profile, nodes, wide_model(), plan).working
    assert (plan.chunk_tokens, working.chunk_tokens) == (256, 256)
    alone = explain(a_profile(["mac"]), nodes[:1], wide_model(), make_plan(a_profile(["mac"]), nodes[:1], wide_model()))
    of_mac = next(stage for stage in plan.stages if stage.node == "mac")
    assert alone.working.chunk_tokens == 1024
    assert 4 * 256 * 500_000 <= of_mac.activation_bytes < alone.working.needed.step / 3


@pytest.mark.parametrize(("size", "chunk_tokens"), [(16 * GIB, 1024), (3 * GIB, 256)])
def test_nodes_left_out_do_not_make_chunks_small_where_there_is_room(size: int, chunk_tokens: int) -> None:
    profile, nodes = (
        a_profile(["mac", "linux"], objective="latency"),
        [a_node("mac", size), a_node("linux", os="Linux")],
    )
    plan = make_plan(profile, [nodes[0], replace(nodes[1], bandwidth_bytes_per_s=1e9)], wide_model())
    assert (plan.nodes, plan.chunk_tokens) == (("mac",), chunk_tokens)
    assert plan.stages[0].free_bytes >= 0
