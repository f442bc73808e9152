"""One step's graph: built by the runner from a frame that has come, or by foresight ahead of one that is to come.

Where lanes follow each other evenly, the next frame's form is known before it comes; only the bytes are not. So the
graph is built on places for them, and the bytes are written there when they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import Boundary, Draw, Shard, ShardCache, Tensor, decode_boundary, encode_boundary, sample
from mlxctl.wire.parts import Buffer
from mlxctl.wire.sampling import Wanted, decode_settings
from mlxctl.worker.held import HeldPlace, Place
from mlxctl.worker.mlx_thread import MlxThread

TOLD_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Fed:
    """What a step of an only stage draws, as the next one's input: `lazy` [rows, 1], int32, an array of its own, as
    another thread waits for those of the draw; or else what is `told` once it is known.
    """

    lazy: mx.array | None
    told: Future[list[int]]

    @classmethod
    def of(cls, draw: Draw) -> Fed:
        tokens = draw.lazy_tokens()
        return cls(None if tokens is None else tokens[:, None], Future())

    def ids(self) -> mx.array:
        """[rows, 1]. Not evaluated, or waits for another thread to tell."""
        if self.lazy is not None:
            return self.lazy
        return mx.array(self.told.result(TOLD_TIMEOUT_S), mx.int32)[:, None]


@dataclass(frozen=True, slots=True)
class BuiltStep:
    """A lazy step: `waited` is what its frame is made of, `states` are the caches. `spec` describes an activation,
    `draw` holds the tokens on the last stage if any are wanted, `fed` feeds them to the next step of an only stage.
    """

    waited: list[Any]
    states: list[Any]
    spec: str = ""
    draw: Draw | None = None
    fed: Fed | None = None
    _elsewhere: list[tuple[Future[None], Sequence[Place]]] = field(default_factory=list)  # at most one

    def schedule_on(self, thread: MlxThread, places: Sequence[Place]) -> None:
        """Start computing on another thread, which may take until the held `places` are filled. Nothing else may
        compute on this thread's stream until then.
        """
        self._elsewhere.append((thread.submit(self._schedule), places))

    def schedule(self) -> None:
        """Start computing without waiting, unless that was done."""
        if not self._elsewhere:
            self._schedule()

    def wait_until_scheduled(self) -> None:
        """Return once no other thread has anything to do with it."""
        futures.wait([scheduling for scheduling, _ in self._elsewhere])

    def wait(self) -> None:
        """Return once what its frame is made of is there. Raises what scheduling raised, and TimedOut."""
        for scheduling, _ in self._elsewhere:
            scheduling.result()
        for array in self.waited:
            array_view(array)
        for _, places in self._elsewhere:
            for place in places:
                place.check()

    def _schedule(self) -> None:
        schedule: Any = mx.async_eval  # untyped in mlx's stubs
        schedule(self.waited, self.states, [] if self.fed is None or self.fed.lazy is None else self.fed.lazy)
        self.states.clear()  # caches that the lane leaves would else stay until the next frame has been sent


def array_view(array: Any) -> memoryview:
    """The elements of a scheduled array: waits for them, copies nothing."""
    return memoryview(array)


def build_step(
    shard: Shard, cache: ShardCache, ids: mx.array, inbox: Boundary | None, wanted: Wanted | None
) -> BuiltStep:
    """The graph of one step of `shard`. Raises CorruptFrame for an input of the wrong form."""
    output = shard.forward(ids, inbox, cache)
    states = cache.arrays()
    if output.boundary is not None:
        spec, arrays = encode_boundary(output.boundary)
        return BuiltStep(arrays, states, spec=spec)
    if wanted is None:  # nothing to send: wait for an element of what was computed, a sum of it, as a view holds all
        return BuiltStep([states[-1].reshape(-1)[:1].astype(mx.float32).sum(keepdims=True)], states)
    assert output.logits is not None
    draw = sample(output.logits[:, -1, :], wanted.samplings, wanted.positions, wanted.recent)
    return BuiltStep(draw.arrays, states, draw=draw, fed=Fed.of(draw) if shard.is_first else None)


@dataclass(frozen=True, slots=True)
class StepForm:
    """All of a frame that a graph hangs on, but for the bytes of token ids and activation."""

    lane: int
    step: int
    rows: int
    columns: int
    boundary: str
    tensor_bytes: tuple[int, ...]
    settings: bytes
    positions: tuple[int, ...]
    has_recent: bool

    @classmethod
    def of(cls, header: shard_pb2.FrameHeader) -> StepForm:
        return cls(
            header.lane,
            header.step,
            header.rows,
            header.columns,
            header.boundary,
            tuple(header.tensor_bytes),
            header.settings,
            tuple(header.positions),
            bool(header.recent),
        )

    def following(self) -> StepForm | None:
        """The next step's form if the lane goes on as before; None where that hangs on tokens to come."""
        if self.columns != 1 or not self.positions or self.has_recent:
            return None
        return replace(self, step=self.step + 1, positions=tuple(position + 1 for position in self.positions))


@dataclass(frozen=True, slots=True)
class ForeseenStep:
    """A step built before its frame has come. If another comes it must be undone."""

    built: BuiltStep
    _undo: Callable[[], None]
    _ids: Place
    _inbox: list[Place]

    @classmethod
    def build(cls, shard: Shard, cache: ShardCache, form: StepForm) -> ForeseenStep:
        """The step of `form`, to be scheduled once it is filled."""
        back = cache.mark()
        return cls._build(shard, cache, form, Place, back, back)

    @classmethod
    def held(cls, shard: Shard, cache: ShardCache, form: StepForm, thread: MlxThread) -> ForeseenStep:
        """The step of `form`, scheduled on `thread`: the device waits until it is filled or undone, which must not take
        long. `cache` is one that can step back.
        """
        step = cls._build(shard, cache, form, HeldPlace, cache.mark(), cache.step_back)
        step.built.schedule_on(thread, (step._ids, *step._inbox))
        return step

    @classmethod
    def _build(
        cls,
        shard: Shard,
        cache: ShardCache,
        form: StepForm,
        place: type[Place],
        unbuild: Callable[[], None],
        undo: Callable[[], None],
    ) -> ForeseenStep:
        ids = place(4 * form.rows)
        places = [place(size_bytes) for size_bytes in form.tensor_bytes]
        inbox = None
        if not shard.is_first:
            tensors = [Tensor("uint8", (size,), at.array) for size, at in zip(form.tensor_bytes, places, strict=True)]
            inbox = decode_boundary(form.boundary, tensors)
        wanted = Wanted(decode_settings(form.settings), form.positions)
        try:
            built = build_step(shard, cache, ids.array.view(mx.int32).reshape(form.rows, 1), inbox, wanted)
        except Exception:
            unbuild()
            raise
        return cls(built, undo, ids, places)

    def fill(self, token_ids: Sequence[int], tensors: Sequence[Buffer | mx.array]) -> None:
        """Write what came in a frame of the form foreseen into its places: `built` can be computed now."""
        self._ids.write(np.array(token_ids, np.int32))
        for place, tensor in zip(self._inbox, tensors, strict=True):
            place.write(tensor)
        self._release()

    def undo(self) -> None:
        """Leave the caches as if it had never been built; what is held is computed first, of zeros."""
        self._release()
        self.built.wait_until_scheduled()
        self._undo()

    def _release(self) -> None:
        for place in (self._ids, *self._inbox):
            place.release()
