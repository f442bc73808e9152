"""The status document and the latencies as Prometheus's text. Called by the API for GET /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from mlxctl.coordinator.latency import Distribution, Latencies

# Key in the status document, name of the metric, its meaning.
_STAGE_GAUGES: Final = (
    ("busy_share", "busy_share", "share of the last second spent computing"),
    ("weight_bytes", "weight_bytes", "weights of the stage's layers"),
    ("cache_bytes", "kv_bytes", "KV caches as they are now"),
    ("budget_bytes", "budget_bytes", "memory that the stage may use"),
    ("active_bytes", "active_bytes", "memory that MLX holds now"),
    ("peak_bytes", "peak_bytes", "the most memory that MLX has held"),
    ("rss_bytes", "rss_bytes", "resident memory of the worker's process"),
    ("caches", "caches", "caches that the stage holds, those kept for prompts that begin alike included"),
)
# The same for what the stage's profile counts since its load.
_STAGE_COUNTERS: Final = (
    ("steps", "steps", "steps computed"),
    ("sent_bytes", "sent_bytes", "bytes sent to the next stage, of the last one to the coordinator"),
    ("compute_s", "compute_seconds", "time spent computing"),
)
_STAGE_LABELS: Final = ("stage", "node")
_OUTCOMES: Final = ("completed", "failed", "cancelled")


class ClusterMetrics(Collector):
    """Reads `status` anew for every scrape."""

    def __init__(self, status: Callable[[], Mapping[str, Any]], latencies: Latencies) -> None:
        self._status = status
        self._latencies = latencies
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        document = self._status()
        yield from _cluster(document)
        yield from _requests(document)
        yield from _stages(document["stages"])
        yield from _steps(document)
        yield _histogram("time_to_first_token", "from request to first token", self._latencies.ttft.snapshot())
        yield _histogram("time_between_tokens", "between two tokens of a request", self._latencies.gap.snapshot())


def _cluster(document: Mapping[str, Any]) -> Iterator[Metric]:
    labels = {key: str(document[key]) for key in ("cluster", "model")}
    info = GaugeMetricFamily("mlxctl_info", "what runs; always 1", labels=(*labels, "version"))
    info.add_metric((*labels.values(), document["coordinator"]["version"]), 1)
    yield info
    yield GaugeMetricFamily("mlxctl_ready", "1 while requests are served", value=document["state"] == "ready")
    yield GaugeMetricFamily("mlxctl_uptime_seconds", "since the cluster came up", value=document["uptime_s"])
    rss_bytes = document["coordinator"]["rss_bytes"]
    yield GaugeMetricFamily("mlxctl_coordinator_rss_bytes", "resident memory of the coordinator", value=rss_bytes)


def _requests(document: Mapping[str, Any]) -> Iterator[Metric]:
    requests = document["requests"]
    for state in ("running", "waiting"):
        yield GaugeMetricFamily(f"mlxctl_requests_{state}", f"requests {state} now", value=requests[state])
    ended = CounterMetricFamily("mlxctl_requests", "requests that have ended", labels=("outcome",))
    for outcome in _OUTCOMES:
        ended.add_metric((outcome,), requests[outcome])
    yield ended
    yield CounterMetricFamily("mlxctl_tokens_generated", "tokens drawn", value=document["tokens_generated"])
    kept, meaning = document["lanes"]["kept_tokens"], "tokens whose caches are kept for prompts that begin alike"
    yield GaugeMetricFamily("mlxctl_kept_tokens", meaning, value=kept)


def _stages(stages: list[Mapping[str, Any]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("mlxctl_stage_up", "1 while the stage's worker works", labels=_STAGE_LABELS)
    for stage in stages:
        up.add_metric(_labels(stage), stage["state"] == "ready")
    yield up
    for key, name, meaning in _STAGE_COUNTERS:
        counter = CounterMetricFamily(f"mlxctl_stage_{name}", meaning, labels=_STAGE_LABELS)
        for stage in stages:
            counter.add_metric(_labels(stage), stage["profile"][key])
        yield counter
    for key, name, meaning in _STAGE_GAUGES:
        gauge = GaugeMetricFamily(f"mlxctl_stage_{name}", meaning, labels=_STAGE_LABELS)
        for stage in stages:
            gauge.add_metric(_labels(stage), stage[key])
        yield gauge


def _steps(document: Mapping[str, Any]) -> Iterator[Metric]:
    """Medians of the last decode steps, once there are any."""
    meaning = "of a decode step, the median: its round trip, all stages' computing, the wire"
    step = GaugeMetricFamily("mlxctl_step_seconds", meaning, labels=("part",))
    for name, median_s in document["steps"]["decode_medians"].items():
        if median_s is not None:
            step.add_metric((name.removesuffix("_s"),), median_s)
    yield step
    meaning = "of a decode step on a stage, the median: wait, queue, graph, eval, serialize"
    parts = GaugeMetricFamily("mlxctl_stage_step_seconds", meaning, labels=(*_STAGE_LABELS, "part"))
    for stage in document["stages"]:
        for name, median_s in (stage["decode_medians"] or {}).items():
            parts.add_metric((*_labels(stage), name.removesuffix("_s")), median_s)
    yield parts


def _labels(stage: Mapping[str, Any]) -> tuple[str, str]:
    return str(stage["stage"]), stage["node"]


def _histogram(name: str, meaning: str, counted: Distribution) -> Metric:
    bounds = [*map(str, counted.bounds_s), "+Inf"]
    buckets = list(zip(bounds, map(float, counted.cumulative), strict=True))
    return HistogramMetricFamily(f"mlxctl_{name}_seconds", meaning, buckets=buckets, sum_value=counted.sum_s)
