"""Laws over measured step times: how many lanes, how large a chunk."""

from __future__ import annotations

import itertools

import pytest

from mlxctl.coordinator.pacing import (
    COMMON_CHUNK,
    FIRST_CHUNK_ALONE,
    FIRST_CHUNK_AMONG_STREAMS,
    READING_S,
    SHORT_PROMPT,
    chunk_tokens,
    cycle_s,
    lane_count,
    worth_another_trial,
)
from mlxctl.coordinator.step_times import FIRST_REST, TRIALS, StepTimes

pytestmark = pytest.mark.unit


def measured(stages: int, base_s: float, row_s: float, sizes: tuple[int, ...] = (1, 2, 4, 8, 16)) -> StepTimes:
    """Equal stages whose decode steps take `base_s` and `row_s` a row, whose chunks take `row_s` a token."""
    times = StepTimes()
    for size in sizes:
        times.add_decode(size, [base_s + row_s * size] * stages)
    return times


def with_chunks(times: StepTimes, stages: int, token_s: float, overhead_s: float = 0.0) -> StepTimes:
    for size in (128, 256, 512, 1024, 2048):
        for _ in range(TRIALS):
            times.add_chunk(size, [overhead_s + token_s * size] * stages)
    return times


def test_a_cycle_is_bound_by_the_slowest_stage_or_by_one_lanes_way_through_all() -> None:
    times = measured(2, 0.010, 0.0)
    assert cycle_s(times, 8, 4) == pytest.approx(0.040)
    assert cycle_s(times, 8, 1) == pytest.approx(0.020)
    assert cycle_s(StepTimes(), 8, 1) is None


@pytest.mark.parametrize(("base_s", "row_s"), [(0.010, 0.0), (0.0, 0.010), (0.005, 0.002)])
def test_every_stage_has_a_lane(base_s: float, row_s: float) -> None:
    assert lane_count(measured(2, base_s, row_s), 2, 8, 2) == 2


def test_without_any_measurement_there_is_a_lane_for_each_stage() -> None:
    assert [lane_count(StepTimes(), 4, sequences, 0) for sequences in (1, 3, 4, 9)] == [1, 3, 4, 4]


def test_a_batch_that_takes_longer_than_its_parts_is_split_further() -> None:
    times = StepTimes()
    for rows, step_s in ((1, 0.01), (2, 0.02), (4, 0.2)):
        times.add_decode(rows, [step_s, step_s])
    assert lane_count(times, 2, 8, 2) == 4


@pytest.mark.parametrize(("base_s", "row_s", "lanes"), [(0.002, 0.010, 2), (0.010, 0.0, 1)])
def test_lanes_are_merged_beyond_the_rows_measured_only_if_a_step_seems_to_take_no_longer(
    base_s: float, row_s: float, lanes: int
) -> None:
    times = StepTimes()
    for rows in range(1, 8):
        times.add_decode(rows, [0.8 * (base_s + row_s * rows), base_s + row_s * rows])
    assert lane_count(times, 2, 13, 4) == lanes


def test_a_number_of_lanes_is_kept_unless_another_is_clearly_better() -> None:
    times = StepTimes()
    for rows, step_s in ((2, 0.0195), (4, 0.04)):
        times.add_decode(rows, [step_s, step_s])
    assert lane_count(times, 2, 8, 2) == 2


def test_a_chunk_beside_streams_fits_their_pace_and_is_small_before_anything_is_known() -> None:
    times = with_chunks(measured(2, 0.010, 0.0), 2, 0.0001)
    assert chunk_tokens(StepTimes(), 2, [4000], 2048, None, 1) == FIRST_CHUNK_AMONG_STREAMS
    assert chunk_tokens(times, 2, [4000], 2048, 0.100, 1) > chunk_tokens(times, 2, [4000], 2048, 0.030, 1)
    assert chunk_tokens(times, 2, [4000], 2048, 0.000001, 1) == COMMON_CHUNK


def test_where_a_token_takes_the_same_time_in_any_chunk_streams_are_delayed_by_few() -> None:
    slow = with_chunks(measured(2, 0.002, 0.010), 2, 0.010)
    assert chunk_tokens(slow, 2, [4000], 2048, 0.030, 1) < COMMON_CHUNK


def test_the_more_prompts_wait_for_each_stream_the_longer_a_chunk_may_delay_it() -> None:
    slow = with_chunks(measured(2, 0.002, 0.010), 2, 0.010)
    one, many = (chunk_tokens(slow, 2, [4000] * prompts, 2048, 0.030, 1) for prompts in (1, 20))
    assert chunk_tokens(slow, 2, [4000] * 20, 2048, 0.030, 20) == one < COMMON_CHUNK < many


def test_a_short_prompt_goes_at_once_beside_streams_unless_a_reader_would_notice() -> None:
    fast, slow = (with_chunks(measured(1, 0.010, 0.0), 1, token_s) for token_s in (0.0005, 0.002))
    assert chunk_tokens(fast, 1, [128], 2048, 0.010, 4) >= 128
    assert chunk_tokens(slow, 1, [128], 2048, 0.010, 4) < COMMON_CHUNK


def test_a_long_prompt_leaves_streams_their_pace_although_it_is_read_fast() -> None:
    fast = with_chunks(measured(1, 0.010, 0.0), 1, 0.00005)
    short, *long = (
        chunk_tokens(fast, 1, prompts, 2048, 0.010, 1)
        for prompts in ([SHORT_PROMPT], [SHORT_PROMPT + 1], [1, 2000], [2000, 2000])
    )
    assert max(long) < SHORT_PROMPT <= short


def test_where_more_short_prompts_wait_than_streams_run_a_chunk_is_as_long_as_a_reader_lets_it() -> None:
    times = with_chunks(measured(1, 0.010, 0.0), 1, 0.0005)
    few, many = (chunk_tokens(times, 1, [512] * prompts, 2048, 0.010, 4) for prompts in (4, 5))
    assert few < many
    assert 0.5 * READING_S < times.chunk(many).slowest_s <= READING_S  # type: ignore[union-attr]


def test_a_prompt_alone_on_one_stage_goes_in_chunks_as_large_as_may_be() -> None:
    assert chunk_tokens(with_chunks(StepTimes(), 1, 0.001, 0.05), 1, [9000], 2048, None, 0) == 2048


def test_over_several_stages_chunks_are_small_enough_to_fill_them_and_large_enough_to_be_worth_it() -> None:
    cheap = chunk_tokens(with_chunks(StepTimes(), 4, 0.001, 0.001), 4, [4000], 2048, None, 0)
    dear = chunk_tokens(with_chunks(StepTimes(), 4, 0.001, 1.0), 4, [4000], 2048, None, 0)
    assert cheap == 128 < dear


def test_a_cold_first_measurement_does_not_settle_a_size_for_good() -> None:
    times = StepTimes()
    times.add_chunk(1024, [10.0])
    for size in (256, 512):
        for _ in range(TRIALS):
            times.add_chunk(size, [0.1 * size / 256])
    assert chunk_tokens(times, 1, [8192], 1024, None, 0) == 1024


@pytest.mark.parametrize(("overhead_s", "best"), [(0.0, 128), (0.01, 512), (0.1, 1024)])
def test_sizes_are_tried_by_doubling_and_halving_as_far_as_it_pays(overhead_s: float, best: int) -> None:
    times = StepTimes()
    tried: list[int] = []
    for _ in range(40):
        tried.append(chunk_tokens(times, 2, [16_000], 2048, None, 0))
        times.add_chunk(tried[-1], [overhead_s + tried[-1] * 0.001] * 2)
    assert tried[0] == FIRST_CHUNK_ALONE
    assert tried[-1] == best
    assert all(size <= 2 * max(tried[:at]) for at, size in enumerate(tried) if at)


def test_a_size_whose_first_chunks_were_cold_is_tried_again_although_a_smaller_one_is_known() -> None:
    times = StepTimes()
    times.add_decode(1, [0.02] * 2)
    for number in range(40):
        size = chunk_tokens(times, 2, [511], 2048, None, 0)
        times.add_chunk(size, [(0.02 + 0.0002 * size) * (3 if number == 0 else 1)] * 2)
    assert size == 256


def test_a_size_that_was_cold_at_every_trial_is_found_once_it_is_warm() -> None:
    """A device that is cold for each size at each length of the cache, as GPUs are that pick kernels by shape."""
    times, warm = StepTimes(), set()
    used: list[list[int]] = []
    for _ in range(30):
        times.reconsider(worth_another_trial(times, 4, 16_384, 2048))
        sizes: list[int] = []
        while (done := sum(sizes)) < 16_384:
            size = min(chunk_tokens(times, 4, [16_384], 2048, None, 0), 16_384 - done)
            times.add_chunk(size, [(0.0 if (size, done) in warm else 0.1) + 0.002 + size * 0.00003] * 4, done)
            warm.add((size, done))
            sizes.append(size)
        used.append(sizes)
    assert used[1] == [2048] * 8
    assert max(map(max, used[-3:])) <= 1024


def test_sizes_are_tried_again_ever_more_rarely_whatever_prompts_end_with() -> None:
    times = with_chunks(StepTimes(), 2, 0.001, 0.1)
    trials = []
    for number in range(200):
        times.reconsider(worth_another_trial(times, 2, 4224, 2048))
        if any(not times.is_believed(size) for size in (512, 1024, 2048)):
            trials.append(number)
        for _ in range(4):
            size = chunk_tokens(times, 2, [4224], 2048, None, 0)
            times.add_chunk(size, [0.1 + size / 1000] * 2)
        times.add_chunk(128, [0.3, 0.3])
    gaps = [later - earlier for earlier, later in itertools.pairwise(trials)]
    assert len(trials) >= 4 and gaps[-1] > gaps[0]


def test_a_burst_of_prompts_uses_up_no_rest() -> None:
    times = with_chunks(StepTimes(), 2, 0.001, 0.1)
    for _ in range(FIRST_REST):
        times.add_chunk(1024, [1.124, 1.124])
    for _ in range(8):
        times.reconsider([512])
    assert not times.is_believed(512)
    for _ in range(TRIALS):
        times.add_chunk(512, [0.612, 0.612])
    for _ in range(2 * FIRST_REST):
        times.add_chunk(1024, [1.124, 1.124])
    times.reconsider([512])
    assert not times.is_believed(512)


def test_in_a_prompt_nothing_is_tried_again() -> None:
    times = with_chunks(StepTimes(), 2, 0.001, 0.1)
    sizes = set()
    for _ in range(200):
        sizes.add(chunk_tokens(times, 2, [400_000], 2048, None, 0))
        times.add_chunk(2048, [2.1, 2.1])
    assert sizes == {2048}


def test_a_prompt_too_short_for_the_first_size_is_cut_for_the_stages_all_the_same() -> None:
    assert chunk_tokens(StepTimes(), 2, [255], 2048, None, 0) == 128
    assert chunk_tokens(StepTimes(), 1, [255], 2048, None, 0) == 256
    assert chunk_tokens(StepTimes(), 2, [4000], 2048, None, 0) == FIRST_CHUNK_ALONE


def test_times_are_medians_of_the_last_ones_and_of_the_nearest_smaller_size() -> None:
    times = StepTimes()
    for step_s in (0.01, 0.01, 5.0):
        times.add_decode(4, [step_s, step_s / 2])
    found = times.decode(7)
    assert found is not None
    assert (found.slowest_s, found.total_s) == pytest.approx((0.01, 0.015))
    assert times.decode(2) == found
