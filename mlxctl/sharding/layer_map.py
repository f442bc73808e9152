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
        """Raises CorruptFrame unless the hidden state in `boundary` is that of `rows` sequences of `columns` tokens."""
        path, like = next(iter(self.templates[0].blanks.items()))  # the hidden state; others may follow the context
        array = boundary.arrays.get(path)
        if array is None or len(boundary.dicts) != len(self.templates[0].dicts):
            raise CorruptFrame("the activation has not the structure of this model's")
        if like.dtype != dtype_name(array):
            raise CorruptFrame(f"the activation is {dtype_name(array)}, not {like.dtype}")
        if not _shape_fits(array.shape, [template.blanks[path].shape for template in self.templates], rows, columns):
            raise CorruptFrame(
                f"the activation has shape {array.shape}, which {rows} x {columns} tokens do not have; "
                f"{TRACED_TOKENS[0]} tokens have {like.shape}"
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
    unread = {cut: _unread((*traced.steps, *traced.long_steps), cut) for cut in cuts}
    growing = (
        item
        for steps in (traced.steps, traced.long_steps)
        if steps
        for cut in cuts
        for item in _growing(steps, cut, unread[cut])
    )
    long_reads = (item for step in traced.steps for item in _long_reads(step))
    illegal = dict([*growing, *long_reads, *_shared_slots(slots)])
    crossings = {cut: _crossing(traced.steps, cut, unread[cut]) for cut in cuts if cut not in illegal}
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


def _crossing(steps: Sequence[Step], cut: int, unread: frozenset[str]) -> Crossing:
    outputs = [step.calls[cut - 1].output for step in steps]
    return Crossing(tuple(output.map_arrays(lambda _path, array: blank_of(array)) for output in outputs), unread)


def _unread(steps: Sequence[Step], cut: int) -> frozenset[str]:
    """Paths of arrays that cross `cut` and that nothing after it reads.

    What a layer was handed counts as read, whether its results hang on it or not: in a long context it may read what it
    ignores in a short one. What layers share in a dict counts unless the first that touches it replaces it.
    """
    paths = frozenset(path for step in steps for path in step.calls[cut - 1].output.arrays)
    wanted = frozenset(
        produced.path
        for step in steps
        for found in (*step.reads.values(), *(call.given for call in step.calls[cut:]))
        for produced in found
        if produced.layer == cut - 1 and produced.path is not None
    )
    return paths - wanted - frozenset(path for step in steps for path in paths if _first_taken(step, cut, path))


def _first_taken(step: Step, cut: int, path: str) -> bool:
    for call in step.calls[cut:]:
        if path in call.taken or path in call.replaced:
            return path in call.taken
    return False


def _growing(steps: Sequence[Step], cut: int, unread: frozenset[str]) -> Iterator[tuple[int, str]]:
    """The cut, if an array that crosses it grows from one step to another of no more tokens."""
    first, *later = (step.calls[cut - 1].output.arrays for step in steps)
    for path in first.keys() - unread:
        sizes = [arrays[path].shape for arrays in later if path in arrays]
        if any(new > old for shape in sizes for old, new in zip(first[path].shape, shape, strict=False)):
            yield cut, f"what layer {cut - 1} leaves to later layers grows with the context"


def _shape_fits(shape: tuple[int, ...], traced: Sequence[tuple[int, ...]], rows: int, columns: int) -> bool:
    """Traced with one sequence of 2 and then 1 tokens: a size that followed the tokens must be `columns`, a size of 1
    may be `rows`, all others are fixed.
    """
    if any(len(shape) != len(other) for other in traced):
        return False
    for size, *sizes in zip(shape, *traced, strict=True):
        follows_tokens = sizes == list(TRACED_TOKENS)
        if size != (columns if follows_tokens else sizes[0]) and (sizes[0], size) != (1, rows):
            return False
    return True
