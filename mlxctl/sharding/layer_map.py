"""Where a model may be cut, and what crosses there. Pure, from one trace. Called by Shard and checkpoint facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxctl.errors import CorruptFrame, IllegalCut
from mlxctl.sharding.arrays import dtype_name
from mlxctl.sharding.boundary import Boundary, blank_of
from mlxctl.sharding.caches import kind
from mlxctl.sharding.trace import Step, Trace, trace

TRACED_TOKENS = (2, 1)  # what a prompt and then a single token look like
_OUT_OF_ORDER = "the model does not call its layers once each, in order"


@dataclass(frozen=True, slots=True)
class Crossing:
    """What crosses one cut. `templates` are the boundaries of 2 tokens and then 1 token of one sequence, with Blanks
    for arrays; `unread` are the paths of arrays that nothing later reads.
    """

    templates: tuple[Boundary, ...]
    unread: frozenset[str]

    def check(self, boundary: Boundary, rows: int, columns: int) -> None:
        """Raises CorruptFrame unless the arrays of `boundary` are those of `rows` sequences, `columns` tokens each."""
        arrays = boundary.arrays
        traced = [template.blanks for template in self.templates]
        if not arrays or len(boundary.dicts) != len(self.templates[0].dicts):
            raise CorruptFrame("the activation has not the structure of this model's")
        for path, array in arrays.items():
            likes = [like[path] for like in traced if path in like]
            if any(like.dtype != dtype_name(array) for like in likes):
                raise CorruptFrame(f"the activation is {dtype_name(array)}, not {likes[0].dtype}")
            if not _shape_fits(array.shape, [like.shape for like in likes], rows, columns):
                raise CorruptFrame(
                    f"the activation has shape {array.shape}, which {rows} x {columns} tokens do not have; "
                    f"{TRACED_TOKENS[0]} tokens have {likes[0].shape}"
                )


@dataclass(frozen=True, slots=True)
class LayerMap:
    """`slots[i]` are the cache slots of layer i, `outer_slots` those that code outside the layers fills.

    A cut c puts the layers before c on one stage and those from c on the next. `illegal_cuts` says why not, cut by cut;
    `crossings[c]` is what crosses a legal one.
    """

    layer_count: int
    slot_kinds: tuple[str, ...]
    slots: tuple[tuple[int, ...], ...]
    outer_slots: tuple[int, ...]
    illegal_cuts: Mapping[int, str]
    crossings: Mapping[int, Crossing]

    @classmethod
    def of(cls, model: Any) -> LayerMap:
        """The map of `model`, whose weights are not read. Call it on the MLX thread."""
        return layer_map(len(model.layers), trace(model, TRACED_TOKENS))

    @property
    def legal_cuts(self) -> tuple[int, ...]:
        return tuple(cut for cut in range(1, self.layer_count) if cut not in self.illegal_cuts)

    def own_slots(self, start: int, stop: int) -> tuple[int, ...]:
        """The cache slots that a stage of layers [start, stop) must keep for real."""
        if stop - start == self.layer_count:
            return tuple(range(len(self.slot_kinds)))
        slots = {slot for layer in self.slots[start:stop] for slot in layer}
        return tuple(sorted(slots.union(self.outer_slots)))

    def check_stage(self, start: int, stop: int) -> None:
        """Raises IllegalCut unless layers [start, stop) can be a stage of their own."""
        if not 0 <= start < stop <= self.layer_count:
            raise IllegalCut(
                f"stage [{start}, {stop}) is not a range of the model's {self.layer_count} layers",
                hint=f"give it at least one layer of [0, {self.layer_count})",
            )
        for cut in (start, stop):
            if cut in self.illegal_cuts:
                raise IllegalCut(f"cannot cut before layer {cut}: {self.illegal_cuts[cut]}", hint=self._nearest(cut))

    def _nearest(self, cut: int) -> str:
        below = [other for other in self.legal_cuts if other < cut][-1:]
        above = [other for other in self.legal_cuts if other > cut][:1]
        nearest = " or ".join(str(other) for other in below + above)
        return f"cut before layer {nearest} instead" if nearest else "this model must stay in one piece"


def layer_map(layer_count: int, traced: Trace) -> LayerMap:
    """The map of a model of `layer_count` layers. Pure."""
    kinds = tuple(kind(cache) for cache in traced.slots)
    cuts = range(1, layer_count)
    if any([call.layer for call in step.calls] != list(range(layer_count)) for step in traced.steps):
        return LayerMap(layer_count, kinds, ((),) * layer_count, (), dict.fromkeys(cuts, _OUT_OF_ORDER), {})
    calls = traced.steps[0].calls
    slots = tuple(call.slots for call in calls)
    illegal = dict([*(item for step in traced.steps for item in _long_reads(step)), *_shared_slots(slots)])
    crossings = {cut: _crossing(traced.steps, cut) for cut in cuts if cut not in illegal}
    return LayerMap(layer_count, kinds, slots, traced.outer_slots, dict(sorted(illegal.items())), crossings)


def _shared_slots(slots: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, str]]:
    owners: dict[int, int] = {}
    for layer, used in enumerate(slots):
        for slot in used:
            owner = owners.setdefault(slot, layer)
            yield from _forbid(owner, layer, f"layer {layer} shares the KV cache of layer {owner}")


def _long_reads(step: Step) -> Iterator[tuple[int, str]]:
    """Cuts between a layer and a later one that reads its results past the layers between them."""
    for reader, found in step.reads.items():
        for produced in found:
            if produced.path is None and produced.layer != reader:
                what = "the KV cache"
            elif produced.path is not None and produced.layer < reader - 1:
                what = "a result"
            else:
                continue
            name = f"layer {reader}" if reader < len(step.calls) else "the output"
            first, last = sorted((produced.layer, reader))
            yield from _forbid(first, last, f"{name} reads {what} of layer {produced.layer}")


def _forbid(first: int, last: int, why: str) -> Iterator[tuple[int, str]]:
    return ((cut, why) for cut in range(first + 1, last + 1))


def _crossing(steps: tuple[Step, ...], cut: int) -> Crossing:
    outputs = [step.calls[cut - 1].output for step in steps]
    paths = frozenset(path for output in outputs for path in output.arrays)
    templates = tuple(output.map_arrays(lambda _path, array: blank_of(array)) for output in outputs)
    return Crossing(templates, paths - _wanted(steps, cut))


def _wanted(steps: tuple[Step, ...], cut: int) -> frozenset[str]:
    """Paths of arrays that a layer from `cut` on was handed, whether it read them or not, or that anything hangs on.

    Being handed counts because a layer may read in a long context what it ignores in a short one.
    """
    return frozenset(
        produced.path
        for step in steps
        for found in (*step.reads.values(), *(call.given for call in step.calls if call.layer >= cut))
        for produced in found
        if produced.layer == cut - 1 and produced.path is not None
    )


def _shape_fits(shape: tuple[int, ...], traced: Sequence[tuple[int, ...]], rows: int, columns: int) -> bool:
    """Traced with one sequence of 2 and then 1 tokens: a size that followed the tokens must be `columns`, a size of 1
    may be `rows`, one that grew with the context may be anything, all others are fixed.
    """
    if any(len(shape) != len(other) for other in traced):
        return False
    for size, *sizes in zip(shape, *traced, strict=True):
        if len(sizes) != len(TRACED_TOKENS) or sizes[1] > sizes[0]:
            continue
        follows_tokens = sizes == list(TRACED_TOKENS)
        if size != (columns if follows_tokens else sizes[0]) and (sizes[0], size) != (1, rows):
            return False
    return True
