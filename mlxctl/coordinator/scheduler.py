"""Which frame goes out next: pure state, events in, frames out. Called by the engine under its lock.

Each session is a lane of its own. Frames of different sessions follow each other through the stages, so that with
several sessions every stage has work; turns are taken in rounds, a frame a turn, so that a long prompt (chunk by chunk)
never stalls the sessions that are decoding.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlxctl.errors import Overloaded
from mlxctl.request import FinishReason, GenerationRequest, Sampling

PREFILL_CHUNK_TOKENS = 256
RETRY_AFTER_S = 5
FRAMES_PER_STAGE = 2  # in flight: one computing, one on its way


class Operation(enum.Enum):
    """What to do to a lane's caches before the step that it rides on."""

    NEW = "new"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Step:
    """One frame: `tokens` of `lane` (none: only operations). `position` is set when the next token is wanted."""

    lane: int
    step: int
    tokens: tuple[int, ...]
    operations: tuple[tuple[Operation, int], ...]
    sampling: Sampling | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class Emitted:
    """A token (None: only the end) for the client of `lane`."""

    lane: int
    token: int | None
    finish_reason: FinishReason | None = None


@dataclass(slots=True)
class Session:
    """Prompt, answer so far, and how much of both the stages have been given."""

    lane: int
    request: GenerationRequest
    emitted: list[int] = field(default_factory=list)
    given: int = 0
    steps: int = 0

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and what was drawn."""
        return len(self.request.prompt) + len(self.emitted)

    @property
    def is_ready(self) -> bool:
        """Whether there is a token to give. While one is being drawn there is not."""
        return self.given < self.known

    def next_tokens(self) -> tuple[int, ...]:
        """The next chunk. The prompt's last token goes alone, so that no other token touches the head."""
        prompt = self.request.prompt
        if self.given >= len(prompt):
            return (self.emitted[self.given - len(prompt)],)
        body_end = len(prompt) - 1
        if self.given == body_end:
            return (prompt[-1],)
        return prompt[self.given : min(self.given + PREFILL_CHUNK_TOKENS, body_end)]


class Scheduler:
    """Sessions of one pipeline of `stage_count` stages; at most `concurrency` run, at most `queue_limit` wait."""

    def __init__(self, stage_count: int, concurrency: int, queue_limit: int) -> None:
        self._frame_limit = FRAMES_PER_STAGE * stage_count
        self._concurrency = concurrency
        self._queue_limit = queue_limit
        self._waiting: deque[Session] = deque()
        self._running: dict[int, Session] = {}
        self._turns: deque[Session] = deque()
        self._operations: list[tuple[Operation, int]] = []
        self._next_lane = 1
        self._in_flight = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Frames sent whose result has not come back."""
        return self._in_flight

    def submit(self, request: GenerationRequest) -> int:
        """Queue `request`; return its lane. Raises Overloaded."""
        if len(self._waiting) >= self._queue_limit and len(self._running) >= self._concurrency:
            raise Overloaded(f"{self._queue_limit} requests are waiting already", retry_after_s=RETRY_AFTER_S)
        session = Session(self._next_lane, request)
        self._next_lane += 1
        self._waiting.append(session)
        return session.lane

    def cancel(self, lane: int) -> bool:
        """Forget `lane`, free its caches with the next frame; False if it is gone already."""
        session = self._running.pop(lane, None)
        if session is None:
            waiting = [s for s in self._waiting if s.lane != lane]
            was_waiting = len(waiting) < len(self._waiting)
            self._waiting = deque(waiting)
            return was_waiting
        self._turns = deque(s for s in self._turns if s.lane != lane)
        self._operations.append((Operation.FREE, lane))
        return True

    def cancel_all(self) -> list[int]:
        """Forget every session without freeing anything (the stages are gone); return their lanes."""
        lanes = [*self._running, *(session.lane for session in self._waiting)]
        self._running.clear()
        self._waiting.clear()
        self._turns.clear()
        self._operations.clear()
        self._in_flight = 0
        return lanes

    def result(self, lane: int, token: int | None) -> Emitted | None:
        """Take the answer to a frame of `lane`; return what its client gets. Frames of forgotten lanes give None."""
        self._in_flight -= 1
        session = self._running.get(lane)
        if session is None:
            return None
        if token is None:
            return None
        if token in session.request.stop_ids:
            self.cancel(lane)
            return Emitted(lane, None, "stop")
        session.emitted.append(token)
        if len(session.emitted) >= session.request.max_tokens:
            self.cancel(lane)
            return Emitted(lane, token, "length")
        self._turns.append(session)
        return Emitted(lane, token)

    def next_steps(self) -> Iterable[Step]:
        """The frames to send now, in order. At the end nothing that could go out is left."""
        self._admit()
        while self._turns and self._in_flight < self._frame_limit:
            yield self._step(self._turns.popleft())
        if self._operations:
            yield Step(0, 0, (), self._take_operations())

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._concurrency:
            session = self._waiting.popleft()
            self._running[session.lane] = session
            self._turns.append(session)
            self._operations.append((Operation.NEW, session.lane))

    def _step(self, session: Session) -> Step:
        tokens = session.next_tokens()
        session.given += len(tokens)
        wanted = session.given >= len(session.request.prompt)
        step = Step(
            session.lane,
            session.steps,
            tokens,
            self._take_operations(),
            session.request.sampling if wanted else None,
            session.given,
        )
        session.steps += 1
        self._in_flight += 1
        if session.is_ready:
            self._turns.append(session)
        return step

    def _take_operations(self) -> tuple[tuple[Operation, int], ...]:
        operations, self._operations = tuple(self._operations), []
        return operations
