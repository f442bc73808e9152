"""Which frame goes out next: pure state, events in, frames out. Called by the engine under its lock.

Prompts are computed alone, chunk by chunk; then their sequence joins a lane, whose sequences are decoded together.
Lanes follow each other through the stages, so that each has work, and chunks take turns with them, small enough that no
running stream waits long (mlxctl/coordinator/pacing.py). Finished sequences stay on the stages for prompts that begin
alike, as long as the planned KV budget has room for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxctl.coordinator.admission import Queue
from mlxctl.coordinator.holdings import Holdings
from mlxctl.coordinator.lanes import Lane, LaneBook, Operation
from mlxctl.coordinator.limits import Limits
from mlxctl.coordinator.pacing import chunk_tokens, cycle_s, worth_another_trial
from mlxctl.coordinator.placement import Placement
from mlxctl.coordinator.prefix_cache import PrefixCache, common_length
from mlxctl.coordinator.session import Session, wanted
from mlxctl.coordinator.step_times import CHUNKS, StepTimes
from mlxctl.request import FinishReason, GenerationRequest, TokenLogprob
from mlxctl.wire.sampling import Wanted

CHUNKS_PER_STAGE = 2  # in flight where nothing is decoded: one computing, one on its way
LEAST_AWAITED_TOKENS = 64  # so many more must be shared for a request to wait until another has computed them
SLIVER = 0.25  # of the chunk before: less is not worth a frame in the same round
PATIENCE = 4  # of so many chunks one is the oldest prompt's, however long it is


@dataclass(frozen=True, slots=True)
class Step:
    """One frame: for each row of `lane` its tokens (no rows: only operations; no tokens: the one that the step before
    draws), and its draw if one is wanted.
    """

    lane: int
    step: int
    rows: tuple[tuple[int, ...], ...]
    operations: tuple[Operation, ...]
    wanted: Wanted | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether it is sent before its tokens are known here."""
        return bool(self.rows) and not self.rows[0]

    @property
    def columns(self) -> int:
        """Tokens a row."""
        return len(self.rows[0]) or 1 if self.rows else 0


@dataclass(frozen=True, slots=True)
class Emitted:
    """A token (None: only the end) for the client of session `id`."""

    id: int
    token: int | None
    finish_reason: FinishReason | None = None
    logprob: TokenLogprob | None = None
    cached: int = 0


@dataclass(frozen=True, slots=True)
class _Flight:
    """A frame under way: a lane's step, or (lane None) a chunk of `tokens` tokens behind `offset` others."""

    sessions: tuple[Session, ...]
    lane: Lane | None
    tokens: int
    offset: int = 0


class Scheduler:
    """Sessions of one pipeline."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.times = StepTimes()
        self._queue = Queue(limits.queue)
        self._sessions: dict[int, Session] = {}
        self._prefilling: list[Session] = []
        self._ready: list[Session] = []
        self._flights: dict[tuple[int, int], _Flight] = {}
        self._open()
        self._next_id = 1
        self._decodes_since_chunk = 0
        self._round_tokens = 0
        self._chunk_turns = 0
        self._is_unsettled = False

    def _open(self) -> None:
        """No lanes and no caches."""
        self._book = LaneBook()
        self._placement = Placement(self.limits, self._book, self.times)
        self._holdings = Holdings(self.limits, self._book, self.times, self._charge_tokens)

    @property
    def prefixes(self) -> PrefixCache:
        """Caches held of sequences that have ended."""
        return self._holdings.prefixes

    @property
    def running(self) -> int:
        return len(self._sessions)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Frames sent whose result has not come back."""
        return len(self._flights)

    @property
    def lane_rows(self) -> tuple[int, ...]:
        """Sequences in each lane."""
        return self._placement.rows

    @property
    def prefilling(self) -> int:
        """Sequences whose prompts are being computed."""
        return len(self._prefilling)

    def submit(self, request: GenerationRequest) -> int:
        """Queue `request`; return its id. Raises Overloaded."""
        if self.running + self.waiting >= self.limits.concurrency:
            self._queue.check()
        session = Session(self._next_id, request)
        self._next_id += 1
        self._queue.put(session)
        return session.id

    def cancel(self, id: int) -> bool:
        """End session `id`, give its caches up with the next frame; False if it is gone already."""
        session = self._sessions.get(id)
        if session is None:
            return self._queue.remove(id)
        self._end(session)
        return True

    def clear(self) -> None:
        """Forget everything without freeing anything: the stages are gone."""
        for session in self._sessions.values():
            session.is_over = True
        self._sessions.clear()
        self._queue.clear()
        self._prefilling.clear()
        self._ready.clear()
        self._flights.clear()
        self._open()

    def result(
        self,
        lane: int,
        step: int,
        tokens: Sequence[int],
        stage_s: Sequence[float] = (),
        logprobs: Sequence[TokenLogprob | None] = (),
    ) -> list[Emitted]:
        """Take the answer to a frame; return what clients get. Rows of sessions that have ended give nothing."""
        flight = self._flights.pop((lane, step), None)
        if flight is None:
            return []
        if flight.lane is None:
            if stage_s:
                self.times.add_chunk(flight.tokens, stage_s, flight.offset)
            return []
        if stage_s:
            self.times.add_decode(len(flight.sessions), stage_s)
        self._placement.landed(flight.lane)
        records = logprobs or [None] * len(tokens)
        drawn = zip(flight.sessions, tokens, records, strict=True)
        return [self._emit(session, token, record) for session, token, record in drawn if not session.is_over]

    def failed(self, lane: int, step: int) -> list[int]:
        """A stage could not compute a frame: forget its sessions and caches; return the sessions' ids."""
        flight = self._flights.pop((lane, step), None)
        if flight is None:
            return []
        sessions: Sequence[Session] = flight.sessions
        if flight.lane is not None and flight.lane in self._book.lanes:
            sessions = flight.lane.sessions
            self._book.free(self._placement.close(flight.lane))
        lost = [session for session in sessions if not session.is_over]
        for session in lost:
            session.is_broken = True
            self._end(session)
        return [session.id for session in lost]

    def forget_prefixes(self, share: float) -> None:
        """Free the caches of at least `share` of all held tokens: the stages hold more than was planned."""
        self._holdings.forget(share)

    def next_steps(self) -> Iterator[Step]:
        """The frames to send now, in order. At the end nothing that could go out is left."""
        self._settle()
        self._admit()
        self._placement.place(self._ready)
        self._placement.rebalance()
        while (step := self._next_frame()) is not None:
            yield step
        if self._book.operations:
            yield Step(0, 0, (), self._book.take_operations())

    def _next_frame(self) -> Step | None:
        if self._chunk_is_due():
            return self._chunk()
        if (lane := self._placement.next_turn()) is not None:
            return self._draw(lane, tuple((session.take_token(),) for session in lane.sessions))
        if (lane := self._placement.next_ahead()) is not None:
            return self._run_ahead(lane)
        return None

    def _chunk_is_due(self) -> bool:
        """So many tokens of prompts a round of the lanes; where there are none, what keeps the stages busy."""
        if not self._prefilling:
            return False
        if self._decodes_since_chunk >= len(self._book.lanes):
            self._decodes_since_chunk, self._round_tokens = 0, self._chunk_size()
        chunks = sum(flight.lane is None for flight in self._flights.values())
        return chunks < CHUNKS_PER_STAGE * self.limits.stages and self._round_tokens > 0

    def _chunk_size(self) -> int:
        lanes, limits = self._book.lanes, self.limits
        prompts = [session.prompt_computed for session in self._prefilling]
        streams = sum(self.lane_rows)
        stream_s = cycle_s(self.times, streams, len(lanes)) if lanes else None
        return chunk_tokens(self.times, limits.stages, prompts, limits.chunk_tokens, stream_s, streams)

    def _chunk(self) -> Step:
        session = self._next_prompt()
        offset, tokens = session.given, session.take_chunk(self._round_tokens)
        left = self._round_tokens - max(len(tokens), CHUNKS[0])
        self._round_tokens = left if left >= SLIVER * len(tokens) else 0
        step = self._step(session.handle, (tokens,), _Flight((session,), None, len(tokens), offset))
        if session.prompt_left == 0:
            self._prompt_done(session)
        return step

    def _next_prompt(self) -> Session:
        """The shortest rest first, but now and then the oldest, so that nobody waits for ever."""
        self._chunk_turns += 1
        if self._chunk_turns % PATIENCE == 0:
            return self._prefilling[0]
        return min(self._prefilling, key=lambda session: session.prompt_left)

    def _prompt_done(self, session: Session) -> None:
        self._prefilling.remove(session)
        if session.is_awaited:
            self._holdings.hold_copy(session)
            self._admit()
        self._ready.append(session)
        self._placement.place(self._ready)

    def _run_ahead(self, lane: Lane) -> Step:
        for session in lane.sessions:
            session.run_ahead()
        return self._draw(lane, ((),) * len(lane.sessions))

    def _draw(self, lane: Lane, rows: tuple[tuple[int, ...], ...]) -> Step:
        lane.in_flight += 1
        self._decodes_since_chunk += 1
        return self._step(lane.handle, rows, _Flight(tuple(lane.sessions), lane, 1), wanted(lane.sessions))

    def _step(
        self, handle: int, rows: tuple[tuple[int, ...], ...], flight: _Flight, drawn: Wanted | None = None
    ) -> Step:
        step = Step(handle, self._book.take_step(handle), rows, self._book.take_operations(), drawn)
        self._flights[handle, step.step] = flight
        return step

    def _emit(self, session: Session, token: int, logprob: TokenLogprob | None) -> Emitted:
        session.drawn.append(token)
        if token in session.request.stop_ids:
            self._end(session)
            return Emitted(session.id, None, "stop", cached=session.cached)
        is_full = len(session.drawn) >= session.request.max_tokens
        if is_full:
            self._end(session)
        return Emitted(session.id, token, "length" if is_full else None, logprob, session.cached)

    def _end(self, session: Session) -> None:
        session.is_over = self._is_unsettled = True
        del self._sessions[session.id]

    def _settle(self) -> None:
        """Take sessions that have ended out of their lanes; hold their caches, or free them."""
        if not self._is_unsettled:
            return
        self._is_unsettled = False
        for alone in (self._prefilling, self._ready):
            for session in [session for session in alone if session.is_over]:
                alone.remove(session)
                self._holdings.give_up(session.handle, session)
        for lane in list(self._book.lanes):
            gone = [session for session in lane.sessions if session.is_over]
            if gone:
                self._leave(lane, gone)
        self._placement.left()

    def _leave(self, lane: Lane, gone: list[Session]) -> None:
        for session in gone:
            if len(lane.sessions) == 1:
                self._holdings.give_up(self._placement.close(lane), session)
            elif self._holdings.is_worth_holding(session):
                self._holdings.hold(self._book.take_out(lane, [session]), session)
            else:
                self._book.drop(lane, [session])

    def _admit(self) -> None:
        while self.running < self.limits.concurrency:
            session = self._queue.take(self._is_startable)
            if session is None:
                return
            self._sessions[session.id] = session
            self._holdings.begin(session)
            if session.prompt_left and not self._book.lanes:
                self._reconsider(session.prompt_left)
            (self._prefilling if session.prompt_left else self._ready).append(session)
            self._holdings.settle()

    def _reconsider(self, prompt: int) -> None:
        limits = self.limits
        self.times.reconsider(worth_another_trial(self.times, limits.stages, prompt, limits.chunk_tokens))

    def _is_startable(self, session: Session) -> bool:
        """Not while another prompt that begins alike is being computed: afterwards it can be shared."""
        body = session.request.prompt[:-1]
        begin = body[:LEAST_AWAITED_TOKENS]
        for other in self._prefilling:
            theirs = other.request.prompt[:-1]
            if theirs[:LEAST_AWAITED_TOKENS] != begin or len(theirs) > self.limits.trim_limit:
                continue
            shared = common_length(body, theirs)
            if shared >= LEAST_AWAITED_TOKENS and shared >= self._holdings.shared_tokens(body) + LEAST_AWAITED_TOKENS:
                other.is_awaited = True
                return False
        return True

    def _charge_tokens(self) -> int:
        """Tokens of cache that running sessions may come to need."""
        alone = sum(session.charge_tokens for session in (*self._prefilling, *self._ready) if not session.is_over)
        return alone + sum(lane.charge_tokens for lane in self._book.lanes)
