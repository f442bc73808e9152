"""A model run in stages against the same model run whole, logit by logit. Called by `mlxctl check` and by matrix.py.

Stages run one after the other, each over all steps, so that no more than the whole model is ever in memory. The tokens
are those that the whole model drew; everything that crosses a cut becomes bytes and comes back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, Literal, Protocol

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model as load_whole

from mlxctl.sharding.arrays import array_bytes
from mlxctl.sharding.boundary import Boundary, Tensor, decode_boundary, encode_boundary
from mlxctl.sharding.caches import cache_arrays
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.sharding.load import load_model, map_layers
from mlxctl.sharding.model import build_skeleton, read_headers
from mlxctl.sharding.shard import Shard

Tokens = list[list[int]]  # one step: [B, T]
Verdict = Literal["exact", "wrong", "not splittable", "not testable"]
MOST_CUTS = 16
Crossed = tuple[str, list[Tensor]]


class Source(Protocol):
    """Where the whole model and its stages come from, with equal weights."""

    @property
    def layers(self) -> LayerMap: ...

    def whole(self) -> Any:
        """The model that mlx-lm would run."""

    def shard(self, start: int, stop: int) -> Shard: ...


class FolderSource:
    """A model on disk: whole as mlx-lm loads it, stages as a worker loads them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def layers(self) -> LayerMap:
        return map_layers(build_skeleton(self._path, read_headers(self._path)))

    def whole(self) -> Any:
        return load_whole(self._path)[0]

    def shard(self, start: int, stop: int) -> Shard:
        return load_model(self._path, start, stop, on_progress=lambda _: None)


class MemorySource:
    """A model in memory, its parameters evaluated; the whole and its stages share them."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @cached_property
    def layers(self) -> LayerMap:
        return LayerMap.of(self.whole())

    def whole(self) -> Any:
        parameters = [array for _, array in tree_flatten(self._model.parameters())]
        return copy.deepcopy(self._model, {id(array): array for array in parameters})

    def shard(self, start: int, stop: int) -> Shard:
        return Shard(self.whole(), start, stop, self.layers)


@dataclass(frozen=True, slots=True)
class Run:
    """One sequence as the whole model ran it: the tokens of each step and the logits [B, T, V] they gave."""

    steps: tuple[Tokens, ...]
    logits: tuple[mx.array, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The model cut at `cuts`. `difference` is the largest of any logit, infinite where one alone is not a number;
    `payload_bytes` crossed the widest cut in the last step; `grows` if that is more than in an earlier step as long.
    """

    cuts: tuple[int, ...]
    difference: float
    payload_bytes: int
    grows: bool
    error: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with it; None for a split that is as good as the whole."""
        if self.error:
            return self.error
        if self.difference:
            return f"logits differ by {self.difference:.3g}"
        return "what crosses a cut grows with the context" if self.grows else None


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out for one model. `reason` says why it is not exact; `illegal_cuts` why a cut was not tried."""

    verdict: Verdict
    reason: str = ""
    layer_count: int = 0
    illegal_cuts: Mapping[int, str] = field(default_factory=dict)
    splits: tuple[Split, ...] = ()


def judge(
    source: Source,
    prompts: Sequence[Sequence[Tokens]],
    decoded: int,
    cuts: Sequence[Sequence[int]] | None = None,
    on_whole: Callable[[], None] = lambda: None,
) -> Finding:
    """Run `source` whole, then cut at each of `cuts` (default: `telling_cuts`). `on_whole` is called once the whole has
    run, so that a crash before and one after can be told apart. Raises IllegalCut for cuts that were asked for.
    """
    layers = source.layers
    for asked in cuts or ():
        for start, stop in pairwise([0, *asked, layers.layer_count]):
            layers.check_stage(start, stop)
    model = source.whole()
    runs, again = run_whole(model, prompts, decoded), run_whole(model, prompts, 0)
    del model
    on_whole()
    about = (layers.layer_count, layers.illegal_cuts)
    if any(
        _difference(one, other) for run, rerun in zip(runs, again, strict=True) for one, other in _pairs(run, rerun)
    ):
        return Finding("not testable", "mlx-lm's own logits change from run to run", *about)
    if not layers.legal_cuts:
        return Finding("not splittable", next(iter(layers.illegal_cuts.values()), "it has one layer"), *about)
    splits = tuple(run_split(source, each, runs) for each in cuts or telling_cuts(layers))
    faults = [f"cut at {list(split.cuts)}: {split.fault}" for split in splits if split.fault]
    return Finding("wrong" if faults else "exact", faults[0] if faults else "", *about, splits)


def telling_cuts(layers: LayerMap) -> tuple[tuple[int, ...], ...]:
    """Ways to cut that together show most: in the middle, in thirds, at both ends, and at all legal cuts at once (of
    more than 16, at 16).
    """
    legal = layers.legal_cuts
    if not legal:
        return ()
    count = layers.layer_count
    many = legal[:: -(-len(legal) // MOST_CUTS)]
    wanted = [(count // 2,), (count // 3, 2 * count // 3), (1, count - 1), many]
    return tuple(dict.fromkeys(tuple(sorted({_nearest(legal, cut) for cut in cuts})) for cuts in wanted))


def _nearest(legal: Sequence[int], wanted: int) -> int:
    return min(legal, key=lambda cut: (abs(cut - wanted), cut))


def _pairs(one: Run, other: Run) -> Iterator[tuple[mx.array, mx.array]]:
    return zip(one.logits, other.logits, strict=False)


def run_whole(model: Any, prompts: Iterable[Sequence[Tokens]], decoded: int) -> list[Run]:
    """Run `model` over the chunks of each prompt, then `decoded` single tokens more, the most likely ones."""
    runs = []
    for prompt in prompts:
        cache = make_prompt_cache(model)
        steps, logits = list(prompt), list[mx.array]()
        while len(logits) < len(prompt) + decoded:
            if len(logits) == len(steps):
                steps.append(mx.argmax(logits[-1][:, -1:], axis=-1).tolist())  # type: ignore[arg-type]
            logits.append(model(mx.array(steps[len(logits)], mx.int32), cache=cache))
            mx.eval(logits[-1], [array for slot in cache for array in cache_arrays(slot)])
        runs.append(Run(tuple(steps), tuple(logits)))
    return runs


def run_split(source: Source, cuts: Sequence[int], runs: Sequence[Run]) -> Split:
    """Run `source` cut at `cuts` over the steps of `runs` and compare. An error of a stage becomes the Split's."""
    crossing: list[list[Crossed | None]] = [[None] * len(run.steps) for run in runs]
    widest = [[0] * len(run.steps) for run in runs]
    difference = 0.0
    try:
        for start, stop in pairwise([0, *cuts, source.layers.layer_count]):
            shard = source.shard(start, stop)
            for index, run in enumerate(runs):
                difference = max(difference, _run_stage(shard, run, crossing[index]))
                widest[index] = [max(old, _size(new)) for old, new in zip(widest[index], crossing[index], strict=True)]
    except Exception as error:
        return Split(tuple(cuts), inf, 0, False, f"{type(error).__name__}: {' '.join(str(error).split())}")
    grows = any(_grows(run, sizes) for run, sizes in zip(runs, widest, strict=True))
    return Split(tuple(cuts), difference, widest[0][-1], grows)


def _run_stage(shard: Shard, run: Run, crossing: list[Crossed | None]) -> float:
    """Run one stage over all steps; `crossing` is what came to it and becomes what leaves it."""
    cache = shard.make_cache()
    difference = 0.0
    for index, (tokens, expected) in enumerate(zip(run.steps, run.logits, strict=True)):
        received = crossing[index]
        inbox = decode_boundary(*received) if received else None
        output = shard.forward(mx.array(tokens, mx.int32), inbox, cache)
        mx.eval(output.arrays(), cache.arrays())
        crossing[index] = _taken_apart(output.boundary) if output.boundary else None
        if output.logits is not None:
            difference = max(difference, _difference(output.logits, expected))
    return difference


def _taken_apart(boundary: Boundary) -> Crossed:
    spec, arrays = encode_boundary(boundary)
    return spec, [Tensor("uint8", array.shape, bytes(array_bytes(array))) for array in arrays]


def _size(crossed: Crossed | None) -> int:
    return sum(len(tensor.data) for tensor in crossed[1]) if crossed else 0


def _grows(run: Run, sizes: Sequence[int]) -> bool:
    """Whether a later step carried more than an earlier one of as many tokens."""
    smallest: dict[int, int] = {}
    lengths = [len(tokens[0]) for tokens in run.steps]
    return any(size > smallest.setdefault(length, size) for length, size in zip(lengths, sizes, strict=True))


def _difference(ours: mx.array, theirs: mx.array) -> float:
    if mx.array_equal(ours, theirs, equal_nan=True).item():
        return 0.0
    apart = mx.abs(ours.astype(mx.float32) - theirs.astype(mx.float32))
    apart = mx.where(mx.isnan(ours) & mx.isnan(theirs), 0, apart)
    return inf if mx.isnan(apart).any().item() else mx.max(apart).item()  # type: ignore[return-value]


def environment() -> dict[str, str]:
    """What findings hold for."""
    return {"mlx": version("mlx"), "mlx_lm": version("mlx-lm"), "device": str(mx.default_device().type).split(".")[-1]}


def document(name: str, finding: Finding) -> dict[str, Any]:
    """A Finding for JSON; an infinite difference is null."""
    return {
        "name": name,
        "verdict": finding.verdict,
        "reason": finding.reason,
        "layers": finding.layer_count,
        "illegal_cuts": {str(cut): why for cut, why in finding.illegal_cuts.items()},
        "splits": [
            {
                "cuts": list(split.cuts),
                "difference": None if split.difference == inf else split.difference,
                "payload_bytes": split.payload_bytes,
                "payload_grows": split.grows,
                "error": split.error,
            }
            for split in finding.splits
        ],
    }
