"""What Prometheus gets to read."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlxctl.coordinator.latency import GAP_BOUNDS_S, Histogram, Latencies
from mlxctl.coordinator.metrics import ClusterMetrics
from tests.scripted_api import STATUS

pytestmark = pytest.mark.unit


def samples(latencies: Latencies | None = None, **changes: Any) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, which come in the order of their names."""
    text = ClusterMetrics(lambda: STATUS | changes, latencies or Latencies()).text().decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_requests_and_tokens_are_counted() -> None:
    found = samples()
    assert found["mlxctl_requests_running",] == 1 and found["mlxctl_requests_waiting",] == 0
    assert [found["mlxctl_requests_total", end] for end in ("completed", "failed", "cancelled")] == [3, 0, 0]
    assert found["mlxctl_tokens_generated_total",] == 99
    assert found["mlxctl_kept_tokens",] == 120


def test_every_stage_has_its_figures() -> None:
    found = samples()
    for stage in ("0", "1"):
        labels = (f"worker-{int(stage) + 1}", stage)
        assert found["mlxctl_stage_up", *labels] == 1 and found["mlxctl_stage_steps_total", *labels] == 7
        assert found["mlxctl_stage_sent_bytes_total", *labels] == 7 << 12
        assert found["mlxctl_stage_compute_seconds_total", *labels] == 0.5
        assert found["mlxctl_stage_busy_share", *labels] == 0.5
        assert found["mlxctl_stage_kv_bytes", *labels] == 1 << 19
        assert found["mlxctl_stage_active_bytes", *labels] == 5 << 20
        assert found["mlxctl_stage_peak_bytes", *labels] == 6 << 20
        assert found["mlxctl_stage_rss_bytes", *labels] == 200 << 20


def test_a_decode_step_is_taken_apart() -> None:
    found = samples()
    assert [found["mlxctl_step_seconds", part] for part in ("round_trip", "compute", "wire")] == [0.028, 0.026, 0.0015]
    parts = [found["mlxctl_stage_step_seconds", "worker-2", part, "1"] for part in ("wait", "queue", "graph", "eval")]
    assert parts == [0.015, 0.0001, 0.001, 0.012]


def test_before_the_first_step_there_is_nothing_to_take_apart() -> None:
    stages = [{**stage, "decode_medians": None} for stage in STATUS["stages"]]
    steps = {**STATUS["steps"], "decode_medians": dict.fromkeys(("round_trip_s", "compute_s", "wire_s"))}
    assert not any("step_seconds" in name for name, *_ in samples(stages=stages, steps=steps))


def test_a_lost_stage_is_down_and_the_cluster_not_ready() -> None:
    stages = [STATUS["stages"][0], {**STATUS["stages"][1], "state": "lost"}]
    found = samples(stages=stages, state="degraded")
    assert found["mlxctl_stage_up", "worker-2", "1"] == 0 and found["mlxctl_ready",] == 0


def test_names_of_what_runs_are_labels() -> None:
    assert samples()["mlxctl_info", "scripted", "canary", "0.1.0"] == 1


def test_latencies_are_cumulative_histograms() -> None:
    latencies = Latencies()
    latencies.observe_ttft(0.2)
    for gap_s in (0.001, 0.002, 99.0):
        latencies.observe_gap(gap_s)
    found = samples(latencies)
    assert found["mlxctl_time_to_first_token_seconds_count",] == 1
    assert found["mlxctl_time_to_first_token_seconds_bucket", "0.1"] == 0
    assert found["mlxctl_time_to_first_token_seconds_bucket", "0.25"] == 1
    buckets = [found["mlxctl_time_between_tokens_seconds_bucket", str(bound)] for bound in GAP_BOUNDS_S]
    assert buckets[:3] == [1, 2, 2] and buckets[-1] == 2
    assert found["mlxctl_time_between_tokens_seconds_bucket", "+Inf"] == 3
    assert found["mlxctl_time_between_tokens_seconds_sum",] == pytest.approx(99.003)


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.snapshot().cumulative == (1, 3, 4)
