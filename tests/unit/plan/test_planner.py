"""Plans from made-up facts: legal, within budget, complete, the best there is, and always the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxctl.errors import CheckpointError, DoesNotFit, IllegalCut, UsageError
from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan import Plan, make_plan
from mlxctl.plan.labels import Placement
from mlxctl.plan.problem import Problem
from mlxctl.profile import Node, Profile, load_profile
from tests.plans import GIB, MIB, a_model, a_node, a_profile

pytestmark = pytest.mark.unit


def split(plan: Plan) -> list[tuple[str, int]]:
    return [(stage.node, stage.stop - stage.start) for stage in plan.stages]


@pytest.mark.parametrize(
    "better",
    [{"cache_bytes_per_s": 1e12}, {"sources": {"bandwidth_bytes_per_s": "measured"}}],
    ids=["caches", "measured"],
)
def test_a_node_that_is_faster_in_anything_is_chosen_over_its_like(better: dict[str, Any]) -> None:
    profile, nodes = a_profile(["a", "b"], objective="latency"), [a_node("a"), a_node("b", **better)]
    assert make_plan(profile, nodes, a_model()).nodes == ("b",)


def test_equal_nodes_get_equal_shares_of_an_even_model() -> None:
    names = ["a", "b", "c", "d"]
    plan = make_plan(a_profile(names), [a_node(name) for name in names], a_model(head_bytes=0, embedding_bytes=0))
    assert split(plan) == [("a", 2), ("b", 2), ("c", 2), ("d", 2)]


def test_the_head_counts_as_the_layers_that_it_weighs() -> None:
    plan = make_plan(a_profile(["a", "b"]), [a_node("a"), a_node("b")], a_model(head_bytes=400 * MIB))
    assert split(plan) == [("a", 6), ("b", 2)]


def test_a_faster_node_gets_more_layers() -> None:
    nodes = [a_node("slow", bandwidth=100e9), a_node("fast", bandwidth=300e9)]
    plan = make_plan(a_profile(["slow", "fast"]), nodes, a_model(layer_bytes=GIB))
    assert dict(split(plan)) == {"slow": 2, "fast": 6}


def test_a_node_never_gets_more_than_it_holds() -> None:
    nodes = [a_node("small", 2 * GIB, bandwidth=900e9), a_node("large", 64 * GIB, bandwidth=100e9)]
    plan = make_plan(a_profile(["small", "large"]), nodes, a_model(layer_bytes=GIB))
    assert dict(split(plan)) == {"small": 1, "large": 7}


def test_latency_takes_the_one_fastest_node_that_holds_it_all() -> None:
    nodes = [a_node("slow"), a_node("fast", bandwidth=400e9), a_node("small", GIB // 2, bandwidth=800e9)]
    plan = make_plan(a_profile(["slow", "fast", "small"], objective="latency"), nodes, a_model())
    assert split(plan) == [("fast", 8)]
    assert [unused.node for unused in plan.unused] == ["slow", "small"]


def test_latency_adds_nodes_only_where_one_is_too_small() -> None:
    nodes = [a_node(name, 6 * GIB) for name in "abc"]
    plan = make_plan(a_profile(["a", "b", "c"], objective="latency"), nodes, a_model(layer_bytes=GIB))
    assert len(plan.stages) == 2


def test_a_pin_is_kept_and_the_rest_is_planned() -> None:
    profile = a_profile(["a", "b", "c"], pins={"b": 5})
    plan = make_plan(profile, [a_node(name) for name in "abc"], a_model())
    assert dict(split(plan))["b"] == 5
    assert sum(count for _, count in split(plan)) == 8


def test_a_pin_that_no_legal_cut_meets_names_those_that_are_near() -> None:
    model = a_model(cuts=[2, 4], illegal_cuts={3: "because"})
    with pytest.raises(IllegalCut) as caught:
        make_plan(a_profile(["a", "b"], pins={"b": 3}), [a_node("a"), a_node("b")], model)
    assert caught.value.node == "b"
    assert caught.value.hint == "pin 2 or 4 layers instead"


def test_pins_that_leave_layers_over_do_not_fit() -> None:
    with pytest.raises(DoesNotFit) as caught:
        make_plan(a_profile(["a", "b"], pins={"a": 3, "b": 3}), [a_node("a"), a_node("b")], a_model())
    assert "no pins" in str(caught.value.hint)


def test_more_nodes_than_pieces_leaves_some_out_and_says_so() -> None:
    plan = make_plan(a_profile(["a", "b", "c"]), [a_node(name) for name in "abc"], a_model(cuts=[4]))
    assert split(plan) == [("a", 4), ("b", 4)]
    assert [(unused.node, unused.reason) for unused in plan.unused] == [("c", "the model comes in 2 pieces only")]


def test_a_node_too_small_for_any_layer_is_left_out_and_named() -> None:
    nodes = [a_node("a"), a_node("tiny", 100 * MIB), a_node("c")]
    plan = make_plan(a_profile(["a", "tiny", "c"]), nodes, a_model())
    assert plan.nodes == ("a", "c")
    assert plan.unused[0].reason == "too little memory for any layer"


def test_processes_of_one_machine_together_stay_within_it() -> None:
    nodes = [a_node(name, 3 * GIB, host_id="here") for name in "ab"]
    model = a_model(layer_bytes=256 * MIB)
    plan = make_plan(a_profile(["a", "b"]), nodes, model)
    assert sum(stage.needed_bytes for stage in plan.stages) <= 3 * GIB
    assert sum(stage.budget_bytes for stage in plan.stages) <= 3 * GIB
    with pytest.raises(DoesNotFit):
        make_plan(a_profile(["a", "b"]), [a_node(name, 2 * GIB, host_id="here") for name in "ab"], model)


def test_the_default_context_is_what_the_model_knows_up_to_8192() -> None:
    profile = a_profile(["a"], context=None)
    assert make_plan(profile, [a_node("a")], a_model(context_limit=4096)).context == 4096
    assert make_plan(profile, [a_node("a")], a_model(context_limit=100_000)).context == 8192


def test_a_context_beyond_the_model_s_is_refused() -> None:
    with pytest.raises(UsageError, match="context 9000 is more than the 8192 tokens"):
        make_plan(a_profile(["a"], context=9000), [a_node("a")], a_model(context_limit=8192))


def test_an_impossible_plan_says_what_would_fit() -> None:
    model = a_model(layer_bytes=GIB, token_bytes=100_000)
    with pytest.raises(DoesNotFit) as caught:
        make_plan(a_profile(["a"], context=8192, concurrency=8), [a_node("a", 18 * GIB)], model)
    assert caught.value.message.startswith("made-up with 8 x 8192 tokens needs 71.")
    assert caught.value.hint == ("this would fit: context 1024; concurrency 1; another node with 96 GB free for it")


def test_four_bits_are_suggested_where_they_would_do() -> None:
    with pytest.raises(DoesNotFit) as caught:
        make_plan(a_profile(["a"]), [a_node("a", 4 * GIB)], a_model(layer_bytes=GIB))
    assert "a 4-bit version of the model" in str(caught.value.hint)


def test_the_plan_s_hash_changes_with_the_split_and_only_with_it() -> None:
    nodes = [a_node("a"), a_node("b")]
    plan = make_plan(a_profile(["a", "b"]), nodes, a_model())
    assert make_plan(a_profile(["a", "b"]), nodes, a_model()).hash == plan.hash
    assert make_plan(a_profile(["a", "b"], pins={"a": 1}), nodes, a_model()).hash != plan.hash
    assert make_plan(a_profile(["a", "b"], context=512), nodes, a_model()).hash != plan.hash


def test_both_workers_of_the_default_profile_get_layers() -> None:
    from mlxctl.checkpoint import read_model_facts
    from mlxctl.launch.probe import probe_local

    profile = load_profile(None, environment={})
    plan = make_plan(profile, probe_local(profile), read_model_facts(profile.model))
    assert split(plan) == [("worker-1", 4), ("worker-2", 4)]


def seventy_billion() -> ModelFacts:
    """Llama 3 70B in 4 bits: 80 layers of 459 MiB, 4 KiB of cache a token and layer."""
    return a_model(
        80, 481_329_152, 4096, embedding_bytes=591_003_648, head_bytes=591_003_648, hidden_size=8192, vocab_size=128_256
    )


def every_plan(problem: Problem) -> Iterator[tuple[Placement, ...]]:
    """Every split over all nodes that keeps within their memory; equal nodes in one order only."""
    ends = len(problem.positions) - 1
    seen = set()
    for order in permutations(range(len(problem.nodes))):
        kinds = tuple((problem.nodes[n].memory_bytes, problem.nodes[n].bandwidth_bytes_per_s) for n in order)
        if kinds in seen:
            continue
        seen.add(kinds)
        for cuts in combinations(range(1, ends), len(order) - 1):
            bounds = (0, *cuts, ends)
            yield tuple(Placement(n, a, b) for n, a, b in zip(order, bounds, bounds[1:], strict=False))


def test_one_large_and_three_small_macs_split_70b_as_trying_everything_does() -> None:
    names = ["studio", "mini1", "mini2", "mini3"]
    nodes = [a_node("studio", 64 * GIB, 400e9, wired_limit_bytes=48 * GIB)]
    nodes += [a_node(name, 16 * GIB, 120e9, wired_limit_bytes=16 * GIB * 2 // 3) for name in names[1:]]
    profile = a_profile(names, context=8192, concurrency=4)
    model = seventy_billion()
    plan = make_plan(profile, nodes, model)

    problem = Problem(profile, nodes, model, 8192, 4)
    cost = {(n, a, b): problem._cost(n, a, b) for n in (0, 1) for a in range(80) for b in range(a + 1, 81)}
    budget = [problem.pool(node.name).bytes for node in nodes]
    best = min(
        max(cost[min(stage.node, 1), stage.start, stage.stop][0] for stage in stages)
        for stages in every_plan(problem)
        if all(cost[min(s.node, 1), s.start, s.stop][1] <= budget[s.node] for s in stages)
    )
    assert max(round(time * 1e9) for time in problem.stage_times(plan.stages)) == best
    assert len(plan.stages) == 4


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Profile, list[NodeFacts], ModelFacts]:
    sizes = draw(st.lists(st.integers(10, 900), min_size=1, max_size=10))
    cuts = draw(st.sets(st.integers(1, len(sizes) - 1))) if len(sizes) > 1 else set()
    count = draw(st.integers(1, 4))
    names = [f"n{i}" for i in range(count)]
    machine = {host: draw(st.integers(500, 9000)) * MIB for host in ("x", "y", *names)}
    hosts = [draw(st.sampled_from(["x", "y", name])) for name in names]
    speeds = [draw(st.sampled_from([50e9, 100e9, 400e9])) for _ in names]
    nodes = [
        a_node(name, machine[host], speed, host_id=host) for name, host, speed in zip(names, hosts, speeds, strict=True)
    ]
    model = a_model(
        layer_bytes=[size * MIB for size in sizes],
        token_bytes=draw(st.integers(0, 5000)),
        cuts=sorted(cuts),
        tied=draw(st.booleans()),
    )
    profile = a_profile(
        names,
        objective=draw(st.sampled_from(["throughput", "latency"])),
        concurrency=draw(st.integers(1, 16)),
        context=draw(st.integers(1, 8192)),
    )
    return profile, nodes, model


@given(clusters())
@settings(max_examples=200, deadline=None)
def test_every_plan_covers_the_model_cuts_legally_and_keeps_within_memory(
    cluster: tuple[Profile, list[NodeFacts], ModelFacts],
) -> None:
    profile, nodes, model = cluster
    try:
        plan = make_plan(profile, nodes, model)
    except DoesNotFit as error:
        assert error.hint
        return
    assert [stage.start for stage in plan.stages] == [0, *(stage.stop for stage in plan.stages[:-1])]
    assert plan.stages[-1].stop == model.layer_count
    assert {stage.start for stage in plan.stages[1:]} <= set(model.legal_cuts)
    assert [stage.index for stage in plan.stages] == list(range(len(plan.stages)))
    assert len(set(plan.nodes)) == len(plan.nodes)
    assert {*plan.nodes, *(unused.node for unused in plan.unused)} == {node.name for node in nodes}
    assert all(stage.free_bytes >= 0 for stage in plan.stages)
    machine = {node.name: (node.host_id, node.memory_bytes) for node in nodes}
    for host, size in machine.values():
        assert sum(stage.needed_bytes for stage in plan.stages if machine[stage.node][0] == host) <= size
    assert make_plan(profile, nodes, model) == plan


def test_a_model_that_this_machine_cannot_compute_is_refused_for_a_local_node_alone() -> None:
    model = a_model(unsupported_here="llama has experts in bfloat16, which MLX's CPU backend cannot multiply")
    elsewhere = a_profile(["a"])
    assert make_plan(elsewhere, [a_node("a")], model).nodes == ("a",)
    here = elsewhere.model_copy(update={"nodes": (Node(name="a", host="localhost"),)})
    with pytest.raises(CheckpointError, match="node a: llama has experts in bfloat16"):
        make_plan(here, [a_node("a")], model)


def test_emulated_macs_have_the_memory_of_the_profile() -> None:
    profile = a_profile(["a"])
    node = Node(name="a", host="localhost", memory_bytes=16 * GIB, memory_reserve_bytes=4 * GIB)
    plan = make_plan(profile.model_copy(update={"nodes": (node,)}), [a_node("a", 2 * GIB)], a_model())
    assert plan.stages[0].budget_bytes == 12 * GIB
