"""Which frame goes out next: fairness, limits, order, nothing left behind."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxctl.coordinator.scheduler import FRAMES_PER_STAGE, PREFILL_CHUNK_TOKENS, Emitted, Operation, Scheduler, Step
from mlxctl.errors import Overloaded
from mlxctl.request import GenerationRequest

pytestmark = pytest.mark.unit

STOP = 2


def request(prompt_tokens: int = 3, max_tokens: int = 4) -> GenerationRequest:
    return GenerationRequest(tuple(range(10, 10 + prompt_tokens)), max_tokens, stop_ids=frozenset({STOP}))


class Stages:
    """Stands for a pipeline that computes frames in order; draws token 100 + position."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.sent: list[Step] = []
        self.queue: deque[Step] = deque()
        self.lanes: dict[int, int] = {}

    def pump(self) -> None:
        for step in self.scheduler.next_steps():
            self.sent.append(step)
            for operation, lane in step.operations:
                if operation is Operation.NEW:
                    assert lane not in self.lanes
                    self.lanes[lane] = 0
                else:
                    del self.lanes[lane]
            if step.tokens:
                assert self.lanes[step.lane] == step.step
                self.lanes[step.lane] += 1
                self.queue.append(step)

    def answer(self, token: int | None = None) -> Emitted | None:
        step = self.queue.popleft()
        drawn = None if step.sampling is None else (100 + step.position if token is None else token)
        emitted = self.scheduler.result(step.lane, drawn)
        self.pump()
        return emitted

    def finish(self) -> list[Emitted]:
        emitted = []
        while self.queue:
            emitted.append(self.answer())
        return [e for e in emitted if e is not None]


def test_a_request_gets_its_tokens_in_order_and_ends_at_its_limit() -> None:
    scheduler = Scheduler(2, 4, 8)
    stages = Stages(scheduler)
    lane = scheduler.submit(request(prompt_tokens=3, max_tokens=3))
    stages.pump()
    assert stages.finish() == [Emitted(lane, 103), Emitted(lane, 104), Emitted(lane, 105, "length")]
    assert (scheduler.running, scheduler.waiting, scheduler.in_flight, stages.lanes) == (0, 0, 0, {})


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it() -> None:
    scheduler = Scheduler(2, 4, 8)
    stages = Stages(scheduler)
    lane = scheduler.submit(request(prompt_tokens=1))
    stages.pump()
    assert stages.answer(token=STOP) == Emitted(lane, None, "stop")
    assert stages.lanes == {}


def test_the_prompts_last_token_goes_alone_so_that_no_other_touches_the_head() -> None:
    scheduler = Scheduler(4, 1, 8)
    stages = Stages(scheduler)
    scheduler.submit(request(prompt_tokens=2 * PREFILL_CHUNK_TOKENS + 5))
    stages.pump()
    assert [len(step.tokens) for step in stages.sent] == [PREFILL_CHUNK_TOKENS, PREFILL_CHUNK_TOKENS, 4, 1]
    assert [step.sampling is not None for step in stages.sent] == [False, False, False, True]
    assert stages.sent[-1].position == 2 * PREFILL_CHUNK_TOKENS + 5


def test_a_running_stream_gets_a_turn_within_every_round_of_a_long_prompts_chunks() -> None:
    scheduler = Scheduler(2, 4, 8)
    stages = Stages(scheduler)
    stream = scheduler.submit(request(prompt_tokens=1, max_tokens=50))
    stages.pump()
    stages.answer()
    long = scheduler.submit(request(prompt_tokens=40 * PREFILL_CHUNK_TOKENS))
    stages.pump()
    for _ in range(40):
        stages.answer()
    window = FRAMES_PER_STAGE * 2 + 1
    turns = [step.lane for step in stages.sent[10:40]]
    assert long in turns
    assert all(stream in turns[i : i + window] for i in range(len(turns) - window))


def test_no_more_sessions_run_than_fit_and_the_next_one_starts_when_one_ends() -> None:
    scheduler = Scheduler(1, 2, 8)
    stages = Stages(scheduler)
    for _ in range(3):
        scheduler.submit(request(max_tokens=1))
    stages.pump()
    assert (scheduler.running, scheduler.waiting) == (2, 1)
    stages.finish()
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_beyond_the_queue_a_request_is_refused() -> None:
    scheduler = Scheduler(1, 1, 2)
    for _ in range(3):
        scheduler.submit(request())
        list(scheduler.next_steps())
    with pytest.raises(Overloaded):
        scheduler.submit(request())


def test_a_cancelled_session_is_freed_with_the_next_frame_and_its_late_results_go_nowhere() -> None:
    scheduler = Scheduler(2, 4, 8)
    stages = Stages(scheduler)
    lane = scheduler.submit(request())
    stages.pump()
    assert scheduler.cancel(lane)
    stages.pump()
    assert stages.lanes == {}
    assert stages.finish() == []
    assert not scheduler.cancel(lane)


def test_a_waiting_session_that_is_cancelled_never_reaches_the_stages() -> None:
    scheduler = Scheduler(1, 1, 8)
    stages = Stages(scheduler)
    scheduler.submit(request())
    stages.pump()
    waiting = scheduler.submit(request())
    assert scheduler.cancel(waiting)
    stages.pump()
    stages.finish()
    assert all(step.lane != waiting for step in stages.sent)


@settings(max_examples=200)
@given(st.data())
def test_whatever_comes_and_goes_every_lane_is_freed_and_every_answer_is_whole(data: st.DataObject) -> None:
    stage_count = data.draw(st.integers(1, 4))
    scheduler = Scheduler(stage_count, data.draw(st.integers(1, 4)), 100)
    stages = Stages(scheduler)
    answers: dict[int, list[int]] = {}
    wanted: dict[int, GenerationRequest] = {}
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["submit", "answer", "answer", "answer", "cancel"]))
        if action == "submit":
            chosen = request(data.draw(st.integers(1, 600)), data.draw(st.integers(1, 6)))
            wanted[scheduler.submit(chosen)] = chosen
            stages.pump()
        elif action == "cancel" and wanted:
            lane = data.draw(st.sampled_from(sorted(wanted)))
            if scheduler.cancel(lane):
                del wanted[lane]
                stages.pump()
        elif stages.queue and (emitted := stages.answer()) is not None:
            answers.setdefault(emitted.lane, []).append(emitted.token or 0)
        assert scheduler.in_flight == len(stages.queue) <= 2 * stage_count
    for emitted in stages.finish():
        answers.setdefault(emitted.lane, []).append(emitted.token or 0)
    assert (scheduler.running, scheduler.waiting, scheduler.in_flight, stages.lanes) == (0, 0, 0, {})
    for lane, chosen in wanted.items():
        first = 100 + len(chosen.prompt)
        assert answers[lane] == list(range(first, first + chosen.max_tokens))
