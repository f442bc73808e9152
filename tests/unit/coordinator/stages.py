"""Stands for the stages of a pipeline in tests of the scheduler: keeps what caches would hold, draws made-up tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mlxctl.coordinator.lanes import Kind, Operation
from mlxctl.coordinator.scheduler import Emitted, Scheduler, Step

Draw = Callable[[tuple[int, ...]], int]


def position(tokens: tuple[int, ...]) -> int:
    """The token drawn after `tokens`: tells how many there were."""
    return 10_000 + len(tokens)


class Stages:
    """Computes frames in order. `caches` holds the tokens of each row, by handle; every misuse fails an assertion."""

    def __init__(self, scheduler: Scheduler, draw: Draw = position) -> None:
        self.scheduler = scheduler
        self.sent: list[Step] = []
        self.queue: deque[tuple[Step, list[int]]] = deque()
        self.caches: dict[int, list[tuple[int, ...]]] = {}
        self.stage_s: Callable[[Step], tuple[float, ...]] = lambda step: ()
        self._steps: dict[int, int] = {}
        self._last_drawn: dict[int, list[int]] = {}
        self._draw = draw

    def pump(self) -> None:
        """Take what the scheduler sends now."""
        for step in self.scheduler.next_steps():
            self.sent.append(step)
            for operation in step.operations:
                self._apply(operation)
            if step.rows:
                self.queue.append((step, self._compute(step)))

    def answer(self) -> list[Emitted]:
        """Give back the oldest frame's result."""
        step, drawn = self.queue.popleft()
        emitted = self.scheduler.result(step.lane, step.step, drawn, self.stage_s(step))
        self.pump()
        return emitted

    def finish(self) -> list[Emitted]:
        """Answer until nothing is under way."""
        emitted = []
        while self.queue:
            emitted += self.answer()
        return emitted

    def _compute(self, step: Step) -> list[int]:
        rows = self.caches[step.lane]
        assert len(step.rows) == len(rows)
        assert self._steps.setdefault(step.lane, 0) == step.step
        self._steps[step.lane] += 1
        given = [(token,) for token in self._last_drawn.pop(step.lane)] if step.is_ahead else step.rows
        self.caches[step.lane] = [(*held, *tokens) for held, tokens in zip(rows, given, strict=True)]
        if step.wanted is None:
            return []
        assert step.wanted.positions == tuple(len(held) for held in self.caches[step.lane])
        self._last_drawn[step.lane] = [self._draw(held) for held in self.caches[step.lane]]
        return self._last_drawn[step.lane]

    def _apply(self, operation: Operation) -> None:
        handle, others = operation.handle, operation.others
        for changed in (handle, *others):
            self._last_drawn.pop(changed, None)
        if operation.kind is Kind.NEW:
            self._add(handle, ())
        elif operation.kind is Kind.COPY:
            (held,) = self.caches[others[0]]
            assert len(held) >= operation.tokens
            self._add(handle, held[: operation.tokens])
        elif operation.kind is Kind.SPLIT:
            rows = self.caches[others[0]]
            assert 0 < len(operation.rows) < len(rows)
            self.caches[handle] = [rows[row] for row in operation.rows]
            self.caches[others[0]] = [tokens for row, tokens in enumerate(rows) if row not in operation.rows]
        elif operation.kind is Kind.JOIN:
            for other in others:
                self.caches[handle] += self.caches.pop(other)
        elif operation.kind is Kind.KEEP:
            assert operation.rows
            self.caches[handle] = [self.caches[handle][row] for row in operation.rows]
        else:
            del self.caches[handle]

    def _add(self, handle: int, tokens: tuple[int, ...]) -> None:
        assert handle not in self.caches
        self.caches[handle] = [tokens]
