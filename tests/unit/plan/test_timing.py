"""Times of stages: what is read, what is computed, what a hop costs, and who shares a machine."""

from __future__ import annotations

import pytest

from mlxctl.plan.timing import LOCAL_HOP_S, StageTiming, sharers
from tests.plans import MIB, a_model, a_node

pytestmark = pytest.mark.unit

MEASURED = {"bandwidth_bytes_per_s": "measured", "flops": "measured"}


def test_a_stage_reads_its_layers_and_the_last_one_the_head() -> None:
    timing = StageTiming(a_model(token_bytes=0), rows=1, tokens=1, past=0)
    node = a_node("a", bandwidth=100 * MIB, sources=MEASURED)
    assert timing.of(node, 0, 4, 1, one_host=True).compute_s == pytest.approx(4.0)
    assert timing.of(node, 4, 8, 1, one_host=True).compute_s == pytest.approx(4.5)


def test_published_bandwidth_is_not_reached() -> None:
    timing = StageTiming(a_model(token_bytes=0), rows=1, tokens=1, past=0)
    published = timing.of(a_node("a", bandwidth=100 * MIB), 0, 4, 1, one_host=True)
    assert published.compute_s == pytest.approx(4.0 / 0.8)


def test_full_caches_are_read_with_the_weights() -> None:
    node = a_node("a", bandwidth=100 * MIB, sources=MEASURED)
    timing = StageTiming(a_model(token_bytes=1024), rows=2, tokens=1, past=1024)
    assert timing.of(node, 0, 4, 1, one_host=True).compute_s == pytest.approx(4.0 + 4 * 2 * 1024 * 1024 / (100 * MIB))


def test_caches_may_be_read_faster_than_weights() -> None:
    node = a_node("a", bandwidth=100 * MIB, sources=MEASURED, cache_bytes_per_s=1000.0 * MIB)
    timing = StageTiming(a_model(token_bytes=1024), rows=2, tokens=1, past=1024)
    assert timing.of(node, 0, 4, 1, one_host=True).compute_s == pytest.approx(4.0 + 4 * 2 / 1000)


@pytest.mark.parametrize(("rows", "seconds"), [(1, 4.0), (8, 18.0), (16, 18.0)])
def test_a_few_tokens_take_between_one_token_s_time_and_that_of_the_batch_measured(rows: int, seconds: float) -> None:
    node = a_node("a", bandwidth=100 * MIB, sources=MEASURED, batch_flops=2 * 4 * 100 * MIB * 8 / 18.0)
    timing = StageTiming(a_model(token_bytes=0), rows=rows, tokens=1, past=0)
    assert timing.of(node, 0, 4, 1, one_host=True).compute_s == pytest.approx(seconds)


def test_a_prefill_chunk_is_bound_by_arithmetic() -> None:
    node = a_node("a", bandwidth=1e12, flops=1e12, sources=MEASURED)
    step = StageTiming(a_model(), rows=1, tokens=256, past=0, logits=False).of(node, 0, 4, 1, one_host=True)
    assert step.bound == "arithmetic"
    assert step.compute_s == pytest.approx(2 * 4 * 100 * MIB * 256 / 1e12)


def test_a_tiny_stage_is_bound_by_its_hop() -> None:
    step = StageTiming(a_model(layer_bytes=1), 1, 1, 0).of(a_node("a"), 0, 4, 1, one_host=True)
    assert (step.bound, step.hop_s) == ("hops", LOCAL_HOP_S)


def test_between_machines_the_activation_is_carried() -> None:
    model = a_model(boundary_token_bytes=1000)
    node = a_node("a", link_bytes_per_s=1e6, link_latency_s=0.001)
    timing = StageTiming(model, rows=1, tokens=256, past=0)
    step = timing.of(node, 0, 4, 1, one_host=False)
    assert step.latency_s == 0.001
    assert step.carried_s == pytest.approx(0.256)
    assert timing.of(node, 4, 8, 1, one_host=False).hop_s == 0.001


def test_what_a_stage_hands_on_goes_no_faster_than_the_next_one_s_link() -> None:
    timing = StageTiming(a_model(boundary_token_bytes=1000), rows=1, tokens=256, past=0)
    fast, slow = a_node("fast", link_bytes_per_s=1e9), a_node("slow", link_bytes_per_s=1e6)
    assert timing.of(fast, 0, 4, 1, one_host=False, following=slow).carried_s == pytest.approx(0.256)
    assert timing.of(slow, 0, 4, 1, one_host=False, following=fast).carried_s == pytest.approx(0.256)


def test_processes_that_share_a_machine_slow_each_other_beyond_its_cores() -> None:
    timing = StageTiming(a_model(token_bytes=0), 1, 1, 0)
    gpu, cpu = a_node("a"), a_node("a", parallel_workers=2.0)
    assert timing.of(gpu, 0, 4, 2, one_host=True).compute_s == 2 * timing.of(gpu, 0, 4, 1, one_host=True).compute_s
    assert timing.of(cpu, 0, 4, 2, one_host=True).compute_s == timing.of(cpu, 0, 4, 1, one_host=True).compute_s


def test_sharers_are_counted_by_machine() -> None:
    nodes = [a_node("a", host_id="x"), a_node("b", host_id="x"), a_node("c")]
    assert [sharers(nodes, node) for node in nodes] == [2, 2, 1]
