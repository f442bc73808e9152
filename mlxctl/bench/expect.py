"""What each device count should do, before any runs: what fits, the prediction, the roofline. Called by session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlxctl.bench import roofline
from mlxctl.bench.records import Expectation, Host, Model, Workload
from mlxctl.errors import MlxctlError
from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan.prediction import Prediction, predict
from mlxctl.plan.report import Report, make_report
from mlxctl.plan.timing import LINK_HOP_S, LOCAL_HOP_S
from mlxctl.profile import Profile


@dataclass(frozen=True, slots=True)
class Ground:
    """What expectations stand on: the nodes as probed, the same with measured speeds, the hosts, the model."""

    nodes: tuple[NodeFacts, ...]
    timed: tuple[NodeFacts, ...]
    hosts: tuple[Host, ...]
    model: ModelFacts

    @property
    def bandwidth(self) -> dict[str, float]:
        """Measured or published bytes a second, by node; nodes of which nothing is known are missing."""
        return {
            node: host.bandwidth_bytes_per_s for host in self.hosts for node in host.nodes if host.bandwidth_bytes_per_s
        }


def expectation(profile: Profile, devices: int, ground: Ground, workloads: Sequence[Workload]) -> Expectation:
    """Of the first `devices` nodes of `profile`."""
    chosen = profile.first(devices)
    names = {node.name for node in chosen.nodes}
    nodes = [node for node in ground.nodes if node.name in names]
    timed = [node for node in ground.timed if node.name in names]
    try:
        report = make_report(chosen, nodes, ground.model, timed)
    except MlxctlError as error:
        return Expectation(devices=devices, fits=False, reason=error.message)
    by_id = {each.id: each for each in workloads}
    predictions = {each.id: _prediction(report, timed, each) for each in workloads}
    return Expectation(
        devices=devices,
        fits=True,
        predicted={name: _predicted(prediction, by_id[name]) for name, prediction in predictions.items()},
        bounds={name: _bound(prediction, by_id[name]) for name, prediction in predictions.items()},
        roofline={each.id: figures for each in workloads if (figures := _roofline(report, ground, each))},
        largest_context=report.explanation.largest_context,
        largest_concurrency=report.explanation.largest_concurrency,
    )


def _prediction(report: Report, timed: Sequence[NodeFacts], workload: Workload) -> Prediction:
    streams = workload.streams if workload.kind == "concurrent" else 1
    return predict(replace(report.plan, concurrency=streams), timed, report.model, workload.prompt_tokens or None)


def _bound(prediction: Prediction, workload: Workload) -> str:
    if workload.kind == "prefill":
        return prediction.prefill.bound
    return prediction.all_lanes.bound if workload.kind == "concurrent" else prediction.one_stream.bound


def _predicted(prediction: Prediction, workload: Workload) -> dict[str, float]:
    """By metric; what the planner has no figure for is missing."""
    if workload.kind == "prefill":
        return {"ttft_s": prediction.ttft_s, "pp_tps": workload.prompt_tokens / prediction.ttft_s}
    if workload.kind == "decode":
        return {"ttft_s": prediction.ttft_s, "tg_tps": prediction.one_stream.tokens_per_s}
    if workload.kind == "concurrent":
        return {
            "aggregate_tps": _with_prefill(workload, prediction.prefill.tokens_per_s, prediction.all_lanes.tokens_per_s)
        }
    return {}


def _with_prefill(workload: Workload, prefill_tps: float, decode_tps: float) -> float:
    """Output tokens over all the time of a run: reading every prompt, then decoding."""
    tokens = workload.streams * workload.output_tokens
    reading_s = workload.streams * workload.prompt_tokens / prefill_tps
    return tokens / (reading_s + tokens / decode_tps)


def _roofline(report: Report, ground: Ground, workload: Workload) -> dict[str, float]:
    bandwidth, stages = ground.bandwidth, report.plan.stages
    if any(stage.node not in bandwidth for stage in stages):
        return {}
    nodes: Mapping[str, NodeFacts] = {node.name: node for node in ground.nodes}
    one_host = len({nodes[stage.node].host_id for stage in stages}) == 1
    hop_s = 0.0 if len(stages) == 1 else LOCAL_HOP_S if one_host else LINK_HOP_S
    model, depth = report.model, workload.prompt_tokens
    if workload.kind == "decode":
        return {"tg_tps": roofline.one_stream_tps(model, stages, bandwidth, hop_s, depth)}
    if workload.kind == "concurrent":
        streams = workload.streams
        return {"aggregate_tps": roofline.aggregate_tps(model, stages, nodes, bandwidth, hop_s, depth, streams)}
    return {}


def model_record(facts: ModelFacts) -> Model:
    """The model as a report names it."""
    caches = [cache for layer in facts.layers for cache in layer.caches]
    return Model(
        name=facts.name,
        hash=facts.hash,
        revision=facts.revision,
        architecture=facts.architecture,
        dtype=facts.dtype,
        quantization=facts.quantization,
        layers=facts.layer_count,
        weight_bytes=facts.weight_bytes,
        kv_bytes_per_token=sum(cache.token_bytes for cache in caches),
        random_weights=facts.name.startswith("random:"),
    )
