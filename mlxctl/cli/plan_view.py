"""A plan for people and as JSON: a bar per node, the reasons, the speeds and their bounds. Called by `mlxctl plan`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlxctl.cli.output import format_bytes, format_duration
from mlxctl.plan.explain import ONE_STREAM, Working
from mlxctl.plan.prediction import Rate
from mlxctl.plan.report import Report
from mlxctl.plan.stages import Stage
from mlxctl.plan.timing import ASSUMED_BANDWIDTH_BYTES_PER_S

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mlxctl.facts import NodeFacts

SCHEMA = "mlxctl.plan/1"
_SOURCES = {"measured": "measured", "table": "published", "assumed": "assumed", "profile": "as given"}
MIN_BAR, MAX_BAR = 12, 60
WORTH_SAYING_BYTES = 1 << 20
_PARTS = (
    ("█", "blue", "weights"),
    ("▓", "magenta", "KV cache"),
    ("░", "yellow", "working memory"),
    ("·", "dim", "free"),
)


def render(report: Report, width: int) -> RenderableType:
    """The whole picture, for a console `width` columns wide."""
    from rich.console import Group

    return Group(_headline(report), "", *_bars(report, width), "", *_statements(report, width))


def _headline(report: Report) -> Text:
    from rich.text import Text

    plan, model = report.plan, report.model
    count = len(plan.stages)
    where = f"{count} nodes" if count > 1 else plan.stages[0].node
    what = f" on {where}: {_sequences(plan.concurrency)} of {plan.context} tokens"
    line = Text.assemble((model.name, "bold"), what)
    kind = model.dtype if model.quantization == "none" else model.quantization
    line.append(f"   {model.layer_count} layers, {kind}, {format_bytes(model.weight_bytes)}", "dim")
    if report.without:
        line.append(f"\nwithout {', '.join(report.without)}", "yellow")
    return line


def _bars(report: Report, width: int) -> Iterator[Text]:
    """A bar per stage, its length the node's budget; a legend below."""
    from rich.text import Text

    stages = report.plan.stages
    names = [stage.node if len(stage.node) <= 16 else f"{stage.node[:15]}…" for stage in stages]
    layers = [_layers(stage) for stage in stages]
    used = [f"{format_bytes(stage.needed_bytes)} of {format_bytes(stage.budget_bytes)}" for stage in stages]
    left, middle, right = (max(map(len, column)) for column in (names, layers, used))
    room = max(MIN_BAR, min(MAX_BAR, width - left - middle - right - 6))
    most = max(stage.budget_bytes for stage in stages)
    for name, range_, amount, stage in zip(names, layers, used, stages, strict=True):
        length = max(4, round(room * stage.budget_bytes / most))
        bar = _bar(stage, length)
        yield Text.assemble(
            (f"{name:<{left}}", "bold"), f"  {range_:<{middle}}  ", bar, " " * (room - length), f"  {amount:>{right}}"
        )
    legend = Text("   ").join(Text.assemble((glyph, style), f" {word}") for glyph, style, word in _PARTS)
    yield Text.assemble(" " * (left + middle + 4), legend)


def _layers(stage: Stage) -> str:
    last = stage.stop - 1
    return f"layers {stage.start}-{last}" if last > stage.start else f"layer {last}"


def _bar(stage: Stage, length: int) -> Text:
    from rich.text import Text

    spare = stage.activation_bytes + stage.headroom_bytes
    sizes = (stage.weight_bytes, stage.kv_bytes, spare, max(0, stage.free_bytes))
    cells = bar_cells(sizes, length)
    return Text.assemble(*((glyph * count, style) for (glyph, style, _), count in zip(_PARTS, cells, strict=True)))


def bar_cells(sizes: Sequence[int], length: int) -> list[int]:
    """`length` cells shared out by size: nothing that is there vanishes, nothing that is not appears."""
    total = sum(sizes)
    exact = [size / total * length for size in sizes]
    cells = [max(1, int(cell)) if size else 0 for cell, size in zip(exact, sizes, strict=True)]
    while sum(cells) != length:
        step = 1 if sum(cells) < length else -1
        able = [i for i, size in enumerate(sizes) if size and (step > 0 or cells[i] > 1)]
        if not able:
            break
        worst = max(able, key=lambda i: step * (exact[i] - cells[i]))
        cells[worst] += step
    return cells


def _statements(report: Report, width: int) -> Iterator[Text]:
    """Titled lines, wrapped with their titles hanging out."""
    from rich.text import Text

    sections = (
        ("why", list(report.explanation.reasons)),
        ("fits", _fits(report)),
        ("speed", _speed(report)),
        ("without", _change(report)),
        ("figures", _sources(report)),
    )
    indent = max(len(title) for title, _ in sections) + 2
    for title, lines in sections:
        wrapped = [part for line in lines for part in textwrap.wrap(line, max(20, width - indent))]
        for index, line in enumerate(wrapped):
            yield Text.assemble((f"{title if index == 0 else '':<{indent}}", "bold"), line)


def _sequences(count: int) -> str:
    return f"{count} sequence{'s' if count > 1 else ''}"


def _fits(report: Report) -> list[str]:
    plan, said = report.plan, report.explanation
    limit = " (the model's own limit)" if said.largest_context == report.model.context_limit else ""
    return [
        f"at most {said.largest_context} tokens{limit} for {_sequences(plan.concurrency)}, "
        f"or {_sequences(said.largest_concurrency)} of {plan.context} tokens",
        f"memory: {'; '.join(said.limits)}",
        _working(said.working),
    ]


def _working(working: Working) -> str:
    """What working memory is for."""
    needed = working.needed
    uses = {
        f"to compute {working.chunk_tokens} tokens of a prompt": needed.step,
        "for caches that grow or join": needed.copies,
        "for frames under way": needed.frames,
        "for logits": needed.logits,
        "for the process and slack": needed.headroom,
    }
    said = ", ".join(f"{format_bytes(size)} {use}" for use, size in uses.items() if size >= WORTH_SAYING_BYTES)
    return f"working memory of {working.node}: {said}"


def _speed(report: Report) -> list[str]:
    prediction = report.explanation.prediction
    lines = [f"{_rate(prediction.one_stream)} one stream{_bound(report, prediction.one_stream)}"]
    if prediction.sequences > 1:
        together = prediction.all_lanes
        lines.append(f"{_rate(together)} {prediction.sequences} streams together{_bound(report, together)}")
    lines.append(f"{_rate(prediction.prefill)} prefill{_bound(report, prediction.prefill)}")
    lines.append(
        f"first token {format_duration(prediction.ttft_s)} after a prompt of {prediction.prompt_tokens} tokens"
    )
    if (fewer := report.explanation.fewer_nodes) is not None:
        where = ", ".join(fewer.nodes)
        lines.append(f"one stream would reach {fewer.tokens_per_s:.3g} tok/s with objective latency, on {where} alone")
    return [*lines, ONE_STREAM] if len(report.plan.stages) > 1 else lines


def _rate(rate: Rate) -> str:
    return f"{rate.tokens_per_s:>7,.{0 if rate.tokens_per_s >= 100 else 1}f} tok/s"


def _bound(report: Report, rate: Rate) -> str:
    where = f" of {report.plan.stages[rate.stage].node}" if rate.stage is not None else ""
    return f", bound by {rate.bound}{where if rate.bound != 'hops' else ''}"


def _change(report: Report) -> list[str]:
    """What leaving nodes out changes."""
    before = report.before
    if before is None:
        return []
    old, new = before.explanation, report.explanation
    pairs = (
        ("largest context", old.largest_context, new.largest_context),
        ("largest concurrency", old.largest_concurrency, new.largest_concurrency),
        (
            "one stream",
            round(old.prediction.one_stream.tokens_per_s, 1),
            round(new.prediction.one_stream.tokens_per_s, 1),
        ),
        ("together", round(old.prediction.all_lanes.tokens_per_s, 1), round(new.prediction.all_lanes.tokens_per_s, 1)),
    )
    return [", ".join(f"{name} {a} → {b}" for name, a, b in pairs)]


def _sources(report: Report) -> list[str]:
    """Where the speeds come from, nodes with the same figures on one line."""
    said: dict[str, list[str]] = {}
    for stage in report.plan.stages:
        said.setdefault(_source(report.facts(stage.node)), []).append(stage.node)
    return [f"{', '.join(names)}: {what}" for what, names in said.items()]


def _source(node: NodeFacts) -> str:
    bandwidth = node.bandwidth_bytes_per_s or ASSUMED_BANDWIDTH_BYTES_PER_S
    from_where = node.sources.get("bandwidth_bytes_per_s", "assumed") if node.bandwidth_bytes_per_s else "assumed"
    text = f"{node.chip}, memory {bandwidth / 1e9:.3g} GB/s ({_SOURCES[from_where]})"
    if node.link_bytes_per_s:
        text += f", network {node.link_bytes_per_s / 1e9:.2g} GB/s"
    if node.link_measured_at and node.link_latency_s:
        text += f", {node.link_latency_s * 1e3:.2g} ms one way (measured by mlxctl bench {node.link_measured_at[:10]})"
    return text


def as_document(report: Report) -> dict[str, Any]:
    """The report as "mlxctl.plan/1"."""
    plan, model, said = report.plan, report.model, report.explanation
    prediction, fewer = said.prediction, said.fewer_nodes
    return {
        "schema": SCHEMA,
        "profile": report.profile,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "hash": model.hash,
            "layers": model.layer_count,
            "weight_bytes": model.weight_bytes,
            "quantization": model.quantization,
            "dtype": model.dtype,
            "context_limit": model.context_limit,
            "illegal_cuts": {str(cut): why for cut, why in sorted(model.illegal_cuts.items())},
        },
        "context": plan.context,
        "concurrency": plan.concurrency,
        "objective": plan.objective,
        "hash": plan.hash,
        "stages": [_stage(stage, prediction.busy_s[stage.index]) for stage in plan.stages],
        "unused": [{"node": unused.node, "reason": unused.reason} for unused in plan.unused],
        "without": list(report.without),
        "reasons": list(said.reasons),
        "limits": list(said.limits),
        "largest": {"context": said.largest_context, "concurrency": said.largest_concurrency},
        "prediction": {
            "prompt_tokens": prediction.prompt_tokens,
            "ttft_s": prediction.ttft_s,
            "prefill": _rate_document(prediction.prefill),
            "one_stream": _rate_document(prediction.one_stream),
            "fewer_nodes": fewer and {"nodes": list(fewer.nodes), "tokens_per_s": fewer.tokens_per_s},
            "all_lanes": {**_rate_document(prediction.all_lanes), "sequences": prediction.sequences},
        },
        "nodes": [_node(report, node.name) for node in report.nodes],
    }


def _stage(stage: Stage, busy_s: float) -> dict[str, Any]:
    return {
        "stage": stage.index,
        "node": stage.node,
        "rank": stage.rank,
        "layers": [stage.start, stage.stop],
        "weight_bytes": stage.weight_bytes,
        "kv_bytes": stage.kv_bytes,
        "activation_bytes": stage.activation_bytes,
        "headroom_bytes": stage.headroom_bytes,
        "free_bytes": stage.free_bytes,
        "budget_bytes": stage.budget_bytes,
        "busy_s": busy_s,
    }


def _rate_document(rate: Rate) -> dict[str, Any]:
    return {"tokens_per_s": rate.tokens_per_s, "bound": rate.bound, "stage": rate.stage}


def _node(report: Report, name: str) -> dict[str, Any]:
    facts = report.facts(name)
    keys = ("name", "host_id", "chip", "os", "memory_bytes", "available_bytes", "wired_limit_bytes")
    speeds = ("bandwidth_bytes_per_s", "flops", "link_bytes_per_s", "link_latency_s", "parallel_workers")
    return {key: getattr(facts, key) for key in (*keys, *speeds)} | {"sources": dict(facts.sources)}
