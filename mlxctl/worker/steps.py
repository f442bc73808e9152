"""One step's graph: built by the runner from a frame that has come, or by foresight ahead of one that is to come.

Where lanes follow each other evenly, the next frame's form is known before it comes; only the bytes are not. So the
graph is built on placeholders, and the bytes are written into them when they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import Boundary, Draw, Shard, ShardCache, Tensor, decode_boundary, encode_boundary, sample
from mlxctl.wire.parts import Buffer
from mlxctl.wire.sampling import Wanted, decode_settings

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

    def schedule(self) -> None:
        """Start computing without waiting."""
        schedule: Any = mx.async_eval  # untyped in mlx's stubs
        schedule(self.waited, self.states, [] if self.fed is None or self.fed.lazy is None else self.fed.lazy)
        self.states.clear()  # caches that the lane leaves would else stay until the next frame has been sent


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
    undo: Callable[[], None]
    _ids: np.ndarray
    _inbox: list[np.ndarray]

    @classmethod
    def build(cls, shard: Shard, cache: ShardCache, form: StepForm) -> ForeseenStep:
        """The step of `form` on placeholders."""
        ids = mx.array(np.zeros((form.rows, 1), np.int32))
        places = [mx.array(np.zeros(size, np.uint8)) for size in form.tensor_bytes]
        inbox = None
        if not shard.is_first:
            inbox = decode_boundary(form.boundary, [Tensor("uint8", (place.size,), place) for place in places])
        wanted = Wanted(decode_settings(form.settings), form.positions)
        undo = cache.mark()
        try:
            built = build_step(shard, cache, ids, inbox, wanted)
        except Exception:
            undo()
            raise
        return cls(built, undo, np.asarray(ids), [np.asarray(place) for place in places])

    def fill(self, token_ids: Sequence[int], tensors: Sequence[Buffer | mx.array]) -> None:
        """Write what came in a frame of the form foreseen into its places: `built` can be computed now."""
        self._ids[:, 0] = token_ids
        for place, tensor in zip(self._inbox, tensors, strict=True):
            place[:] = np.asarray(tensor)
