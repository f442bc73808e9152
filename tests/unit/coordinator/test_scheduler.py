"""Which frame goes out next: fairness, limits, lanes, shared prefixes, nothing left behind."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxctl.coordinator.holdings import LEAST_SHARED_TOKENS
from mlxctl.coordinator.limits import Limits
from mlxctl.coordinator.pacing import FIRST_CHUNK_AMONG_STREAMS, LANES_PER_STAGE
from mlxctl.coordinator.scheduler import CHUNKS_PER_STAGE, Emitted, Scheduler, Step
from mlxctl.errors import Overloaded
from mlxctl.request import GenerationRequest, Sampling
from mlxctl.wire.sampling import Wanted
from tests.unit.coordinator.stages import Stages, position

pytestmark = pytest.mark.unit

STOP = 2
LIMITS = Limits(stages=2, context=4096, concurrency=4, queue=8, chunk_tokens=256)


def request(prompt_tokens: int = 3, max_tokens: int = 4, first: int = 10) -> GenerationRequest:
    return GenerationRequest(tuple(range(first, first + prompt_tokens)), max_tokens, stop_ids=frozenset({STOP}))


def pipeline(**changes: float) -> tuple[Scheduler, Stages]:
    scheduler = Scheduler(replace(LIMITS, **changes))  # type: ignore[arg-type]
    return scheduler, Stages(scheduler)


def taking(per_row_s: float, step: Step) -> tuple[float, ...]:
    """What two equal stages need for `step`."""
    return (0.01 + per_row_s * len(step.rows),) * 2


def held(stages: Stages) -> set[int]:
    return {entry.handle for entry in stages.scheduler.prefixes}


def test_a_request_gets_its_tokens_in_order_and_ends_at_its_limit() -> None:
    scheduler, stages = pipeline()
    id = scheduler.submit(request(prompt_tokens=3, max_tokens=3))
    stages.pump()
    assert stages.finish() == [Emitted(id, 10_003), Emitted(id, 10_004), Emitted(id, 10_005, "length")]
    assert (scheduler.running, scheduler.waiting, scheduler.in_flight, stages.caches) == (0, 0, 0, {})


def test_what_is_left_of_a_round_after_a_prompt_is_not_worth_a_frame_of_few_tokens() -> None:
    scheduler, stages = pipeline(stages=1, chunk_tokens=64)
    for first in (10, 100):
        scheduler.submit(request(prompt_tokens=64, first=first))
    stages.pump()
    stages.finish()
    chunks = [step.columns for step in stages.sent if step.rows and step.wanted is None]
    assert chunks[:2] == [63, FIRST_CHUNK_AMONG_STREAMS]


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it() -> None:
    scheduler = Scheduler(LIMITS)
    stages = Stages(scheduler, draw=lambda tokens: STOP)
    id = scheduler.submit(request(prompt_tokens=1))
    stages.pump()
    assert stages.answer() == [Emitted(id, None, "stop")]
    assert stages.caches == {}


def test_the_prompts_last_token_goes_with_the_draw_so_that_no_other_touches_the_head() -> None:
    scheduler, stages = pipeline(stages=4)
    scheduler.submit(request(prompt_tokens=2 * 256 + 5))
    stages.pump()
    *chunks, last, ahead = [len(step.rows[0]) for step in stages.sent]
    assert (sum(chunks), last, ahead) == (2 * 256 + 4, 1, 0)
    assert [step.wanted is not None for step in stages.sent] == [False] * len(chunks) + [True, True]
    assert stages.sent[-2].wanted == Wanted((), (2 * 256 + 5,))


def test_a_step_follows_the_one_in_flight_before_its_token_has_come() -> None:
    scheduler, stages = pipeline()
    id = scheduler.submit(request(prompt_tokens=1, max_tokens=3))
    stages.pump()
    assert [step.rows for step in stages.sent if step.rows] == [((10,),), ((),)]
    stages.answer()
    assert [step.rows for step in stages.sent if step.rows] == [((10,),), ((),), ((),)]
    assert [step.wanted.positions for step in stages.sent if step.wanted] == [(1,), (2,), (3,)]
    stages.finish()
    assert scheduler.in_flight == 0 and not scheduler.cancel(id)


def test_no_step_runs_ahead_of_the_last_token_or_of_tokens_that_penalties_need() -> None:
    scheduler, stages = pipeline()
    penalized = replace(request(prompt_tokens=1), sampling=Sampling(presence_penalty=1.0))
    for asked in (request(prompt_tokens=1, max_tokens=1), penalized):
        scheduler.submit(asked)
        stages.pump()
        stages.finish()
    assert not any(step.is_ahead for step in stages.sent)


def test_a_step_that_ran_ahead_of_the_end_changes_no_answer_and_its_token_is_shared() -> None:
    scheduler = Scheduler(LIMITS)
    drawn = iter([7, STOP, 9, 11, STOP, 13])
    stages = Stages(scheduler, draw=lambda tokens: next(drawn))
    id = scheduler.submit(request(prompt_tokens=20, max_tokens=9))
    stages.pump()
    emitted = stages.finish()
    assert emitted == [Emitted(id, 7), Emitted(id, None, "stop")]
    (entry,) = scheduler.prefixes
    assert entry.tokens == (*range(10, 30), 7, STOP)
    follow_up = GenerationRequest((*entry.tokens, 50, 51), 9, stop_ids=frozenset({STOP}))
    id = scheduler.submit(follow_up)
    stages.pump()
    assert stages.finish()[0] == Emitted(id, 11, cached=len(entry.tokens))


def test_lanes_that_wait_for_their_turn_come_before_steps_that_run_ahead() -> None:
    scheduler, stages = pipeline(concurrency=8, batchable=False)
    ids = [scheduler.submit(request(max_tokens=50)) for _ in range(8)]
    stages.pump()
    served = {each.id for _ in range(40) for each in stages.answer()}
    assert served == set(ids)


def test_sequences_are_decoded_together_in_as_many_lanes_as_there_are_stages() -> None:
    scheduler, stages = pipeline(concurrency=8)
    for _ in range(8):
        scheduler.submit(request(max_tokens=20))
    stages.pump()
    for _ in range(20):
        stages.answer()
    assert scheduler.lane_rows == (4, 4)
    assert {len(step.rows) for step in stages.sent[-4:]} == {4}


def test_caches_that_cannot_be_batched_get_a_lane_for_each_sequence() -> None:
    scheduler, stages = pipeline(concurrency=8, batchable=False)
    for _ in range(8):
        scheduler.submit(request(max_tokens=50))
    stages.pump()
    for _ in range(40):
        stages.answer()
    assert scheduler.lane_rows == (1,) * 8
    assert scheduler.in_flight == LANES_PER_STAGE * 2
    emitted = stages.finish()
    assert sum(each.finish_reason == "length" for each in emitted) == 8
    assert all(len(step.rows) <= 1 for step in stages.sent)


def test_where_compute_binds_a_batch_is_spread_and_where_bandwidth_binds_it_is_not_split_further() -> None:
    for per_row_s, lanes in ((1.0, {2, 3, 4}), (0.0, {2})):
        scheduler, stages = pipeline(concurrency=8)
        stages.stage_s = partial(taking, per_row_s)
        for _ in range(8):
            scheduler.submit(request(max_tokens=200))
        stages.pump()
        for _ in range(300):
            stages.answer()
        assert len(scheduler.lane_rows) in lanes
        assert max(scheduler.lane_rows) - min(scheduler.lane_rows) <= 1


def test_lanes_stay_even_when_sequences_leave() -> None:
    scheduler, stages = pipeline(concurrency=8)
    ids = [scheduler.submit(request(max_tokens=100)) for _ in range(8)]
    stages.pump()
    for _ in range(10):
        stages.answer()
    for id in ids[0::2]:  # all of one lane
        scheduler.cancel(id)
    stages.pump()
    for _ in range(10):
        stages.answer()
    assert scheduler.lane_rows == (2, 2)
    emitted = stages.finish()
    assert {each.id for each in emitted if each.finish_reason} == set(ids[1::2])


def test_lanes_are_evened_out_as_soon_as_one_is_opened() -> None:
    scheduler, stages = pipeline(concurrency=10)
    for per_row_s, count in ((0.0, 8), (0.01, 0), (0.01, 2)):
        stages.stage_s = partial(taking, per_row_s)
        for number in range(count):
            scheduler.submit(request(max_tokens=400, first=100 * count + number))
        stages.pump()
        for _ in range(40 if count == 8 else 10):
            stages.answer()
    assert sorted(scheduler.lane_rows) == [2, 2, 3, 3]


def test_running_streams_get_a_turn_between_any_two_chunks_of_a_long_prompt() -> None:
    scheduler, stages = pipeline()
    scheduler.submit(request(prompt_tokens=1, max_tokens=200))
    stages.pump()
    stages.answer()
    scheduler.submit(request(prompt_tokens=2000, max_tokens=1))
    stages.pump()
    for _ in range(60):
        stages.answer()
    kinds = ["decode" if step.wanted else "chunk" for step in stages.sent if step.rows]
    assert "chunk chunk" not in " ".join(kinds)
    assert max(len(step.rows[0]) for step in stages.sent if step.rows) == FIRST_CHUNK_AMONG_STREAMS


def test_a_chunk_beside_streams_is_as_large_as_their_pace_allows() -> None:
    scheduler, stages = pipeline()
    stages.stage_s = lambda step: (0.01,) * 2 if step.wanted else (0.0001 * len(step.rows[0]),) * 2
    scheduler.submit(request(prompt_tokens=1, max_tokens=400))
    stages.pump()
    stages.answer()
    scheduler.submit(request(prompt_tokens=4000, max_tokens=1))
    stages.pump()
    for _ in range(60):
        stages.answer()
    largest = max(len(step.rows[0]) for step in stages.sent if step.rows)
    assert largest == 96  # 2 stages x 9.6 ms are what 1.2 cycles of 20 ms have room for


def test_a_prompt_alone_keeps_every_stage_supplied_with_chunks() -> None:
    scheduler, stages = pipeline()
    scheduler.submit(request(prompt_tokens=3000))
    stages.pump()
    assert scheduler.in_flight == CHUNKS_PER_STAGE * 2


def test_a_short_prompt_does_not_wait_for_a_long_one_and_the_long_one_does_not_wait_for_ever() -> None:
    scheduler, stages = pipeline(concurrency=8)
    stages.stage_s = partial(taking, 0.01)
    long = scheduler.submit(request(prompt_tokens=4000, max_tokens=1))
    stages.pump()
    done: list[int] = []
    for number in range(1, 1000):
        while scheduler.running + scheduler.waiting < 8 and long not in done:
            scheduler.submit(request(prompt_tokens=600, max_tokens=1, first=10_000 * number))
            stages.pump()
        if not stages.queue:
            break
        done += [each.id for each in stages.answer() if each.finish_reason]
    assert 0 < done.index(long) < len(done)


def test_no_more_sessions_run_than_fit_and_the_next_one_starts_when_one_ends() -> None:
    scheduler, stages = pipeline(stages=1, concurrency=2)
    for _ in range(3):
        scheduler.submit(request(max_tokens=1))
    stages.pump()
    assert (scheduler.running, scheduler.waiting) == (2, 1)
    stages.finish()
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_interactive_requests_go_before_batch_ones() -> None:
    scheduler, stages = pipeline(stages=1, concurrency=1)
    scheduler.submit(request(max_tokens=1))
    stages.pump()
    batch = scheduler.submit(replace(request(max_tokens=1), priority="batch"))
    interactive = scheduler.submit(request(max_tokens=1))
    assert [each.id for each in stages.finish()][-2:] == [interactive, batch]


def test_beyond_the_queue_a_request_is_refused() -> None:
    scheduler, _ = pipeline(stages=1, concurrency=1, queue=2)
    for _ in range(3):
        scheduler.submit(request())
        list(scheduler.next_steps())
    with pytest.raises(Overloaded):
        scheduler.submit(request())


def test_a_cancelled_session_is_freed_with_the_next_frame_and_its_late_results_go_nowhere() -> None:
    scheduler, stages = pipeline()
    id = scheduler.submit(request())
    stages.pump()
    assert scheduler.cancel(id)
    stages.pump()
    stages.finish()
    assert stages.caches == {}
    assert not scheduler.cancel(id)


def test_a_prompt_that_is_cancelled_half_way_is_computed_no_further() -> None:
    scheduler, stages = pipeline(stages=1)
    id = scheduler.submit(request(prompt_tokens=4000))
    stages.pump()
    scheduler.cancel(id)
    assert stages.finish() == []
    assert len([step for step in stages.sent if step.rows]) == CHUNKS_PER_STAGE
    assert set(stages.caches) == held(stages)


def test_a_waiting_session_that_is_cancelled_never_reaches_the_stages() -> None:
    scheduler, stages = pipeline(stages=1, concurrency=1)
    scheduler.submit(request(max_tokens=1))
    stages.pump()
    waiting = scheduler.submit(request(max_tokens=1))
    assert scheduler.cancel(waiting)
    assert waiting not in {each.id for each in stages.finish()}


def test_a_frame_that_fails_ends_the_sessions_of_its_lane_alone() -> None:
    scheduler, stages = pipeline()
    ids = [scheduler.submit(request(max_tokens=3)) for _ in range(4)]
    stages.pump()
    step, _ = stages.queue.popleft()
    lost = scheduler.failed(step.lane, step.step)
    stages.pump()
    emitted = stages.finish()
    assert lost
    assert {each.id for each in emitted if each.finish_reason} == set(ids) - set(lost)
    assert stages.caches == {}


def test_a_step_that_ran_ahead_of_one_that_failed_fails_nobody_else() -> None:
    scheduler, stages = pipeline()
    id = scheduler.submit(request(max_tokens=3))
    stages.pump()
    chunk, first, ahead = (step for step in stages.sent if step.rows)
    scheduler.result(chunk.lane, chunk.step, [])
    assert ahead.is_ahead
    assert scheduler.failed(first.lane, first.step) == [id]
    assert scheduler.failed(ahead.lane, ahead.step) == []
    assert scheduler.in_flight == 0


def test_the_next_turn_of_a_conversation_computes_its_new_tokens_alone() -> None:
    scheduler, stages = pipeline()
    scheduler.submit(request(prompt_tokens=300, max_tokens=5))
    stages.pump()
    answer = [each.token for each in stages.finish()]
    known = (*request(prompt_tokens=300).prompt, *(token for token in answer if token is not None))
    follow_up = GenerationRequest((*known, 7, 8, 9), 2)
    scheduler.submit(follow_up)
    count = len(stages.sent)
    stages.pump()
    emitted = stages.finish()
    assert emitted[0].cached == len(known) - 1  # the last token drawn was never given to the stages
    assert sum(len(step.rows[0]) for step in stages.sent[count:] if step.rows and not step.wanted) == 3
    assert [each.token for each in emitted] == [10_000 + len(known) + 3, 10_000 + len(known) + 4]
    assert set(stages.caches) == held(stages)


def test_requests_that_come_together_compute_a_shared_beginning_once() -> None:
    scheduler, stages = pipeline()
    system = tuple(range(100, 500))
    for question in range(4):
        scheduler.submit(GenerationRequest((*system, 1000 + question, 1, 3), 2))
    stages.pump()
    emitted = stages.finish()
    assert sum(len(step.rows[0]) for step in stages.sent if step.rows and not step.wanted) == 402 + 3 * 2
    assert sorted(each.cached for each in emitted if each.finish_reason) == [0, 400, 400, 400]


def test_caches_that_cannot_forget_are_shared_whole_or_not_at_all() -> None:
    scheduler, stages = pipeline(trim_limit=0)
    scheduler.submit(request(prompt_tokens=100, max_tokens=1))
    stages.pump()
    stages.finish()
    scheduler.submit(GenerationRequest((*range(10, 60), 5, 6, 7), 1))
    scheduler.submit(GenerationRequest((*range(10, 110), 5, 6, 7), 1))
    stages.pump()
    assert sorted(each.cached for each in stages.finish()) == [0, 100]


def test_kept_caches_give_way_to_running_requests() -> None:
    scheduler, stages = pipeline(context=1024, concurrency=1)
    for first in (0, 2000, 4000):
        scheduler.submit(request(prompt_tokens=600, max_tokens=1, first=first))
        stages.pump()
        stages.finish()
        assert len(scheduler.prefixes) == 1
    scheduler.submit(request(prompt_tokens=1000, max_tokens=24, first=9000))
    stages.pump()
    assert len(scheduler.prefixes) == 0
    stages.finish()


def test_kept_caches_are_given_up_when_the_stages_hold_more_than_planned() -> None:
    scheduler, stages = pipeline()
    for first in (0, 2000, 4000, 6000):
        scheduler.submit(request(prompt_tokens=100, max_tokens=1, first=first))
    stages.pump()
    stages.finish()
    scheduler.forget_prefixes(0.5)
    stages.pump()
    assert len(scheduler.prefixes) == 2
    assert set(stages.caches) == held(stages)


@pytest.mark.parametrize(("token_s", "shared"), [(0.0001, 0), (0.01, 4)])
def test_a_few_tokens_are_shared_only_where_they_take_longer_than_a_copy(token_s: float, shared: int) -> None:
    scheduler, stages = pipeline()
    stages.stage_s = lambda step: (token_s * step.columns,) * 2
    beginning = tuple(range(50, 50 + 4))
    emitted: list[Emitted] = []
    for first in (1000, 2000):
        scheduler.submit(GenerationRequest((*beginning, *range(first, first + 40)), 1))
        stages.pump()
        emitted += stages.finish()
    assert [each.cached for each in emitted] == [0, shared]


def test_short_sequences_are_not_kept() -> None:
    scheduler, stages = pipeline()
    scheduler.submit(request(prompt_tokens=LEAST_SHARED_TOKENS - 1, max_tokens=1))
    stages.pump()
    stages.finish()
    assert stages.caches == {}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_and_goes_every_answer_is_whole_and_nothing_is_left(data: st.DataObject) -> None:
    limits = Limits(
        stages=data.draw(st.integers(1, 4)),
        context=1024,
        concurrency=data.draw(st.integers(1, 9)),
        queue=100,
        batchable=data.draw(st.booleans()),
        trim_limit=data.draw(st.sampled_from([0, 300, math.inf])),
        chunk_tokens=data.draw(st.sampled_from([16, 256])),
    )
    scheduler = Scheduler(limits)
    stages = Stages(scheduler)
    per_row_s = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    stages.stage_s = lambda step: (0.1 + per_row_s * len(step.rows) * len(step.rows[0]),) * limits.stages
    answers: dict[int, list[int]] = {}
    wanted: dict[int, GenerationRequest] = {}

    def take(emitted: list[Emitted]) -> None:
        for each in emitted:
            if each.token is not None:
                answers.setdefault(each.id, []).append(each.token)

    for _ in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["submit", "submit", "answer", "answer", "answer", "cancel"]))
        if action == "submit":
            first = data.draw(st.sampled_from([10, 10, 2000]))
            chosen = request(data.draw(st.integers(1, 600)), data.draw(st.integers(1, 12)), first)
            wanted[scheduler.submit(chosen)] = chosen
            stages.pump()
        elif action == "cancel" and wanted:
            id = data.draw(st.sampled_from(sorted(wanted)))
            if scheduler.cancel(id):
                del wanted[id]
                stages.pump()
        elif stages.queue:
            take(stages.answer())
    take(stages.finish())
    assert (scheduler.running, scheduler.waiting, scheduler.in_flight) == (0, 0, 0)
    assert set(stages.caches) == held(stages)
    for entry in scheduler.prefixes:
        (row,) = stages.caches[entry.handle]
        assert row[: len(entry.tokens)] == entry.tokens
        assert len(row) == len(entry.tokens) + entry.surplus
        assert not entry.surplus or len(row) <= limits.trim_limit
    for id, chosen in wanted.items():
        first = position(chosen.prompt)
        assert answers[id] == list(range(first, first + chosen.max_tokens))
