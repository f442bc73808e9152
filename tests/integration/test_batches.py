"""Sequences decoded together on batched caches: each row as if it were alone, whoever joins and leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import pytest

from mlxctl.sharding import ShardCache
from tests.stages import Stages, even_cuts
from tests.tiny_models import CONFIGS, write_checkpoint

pytestmark = pytest.mark.model

LAYERS = 8
PROMPTS = ([5, 6, 7, 8, 9, 10, 11], [20, 21, 22], list(range(30, 60)), [70, 71, 72, 73])
ALIKE = ([5, 6, 7, 8], [20, 21, 22, 23], [70, 71, 72, 73])
TOLERANCE = 2e-4  # float32, other shapes of matrix products

Caches = list[ShardCache]


class Sequences:
    """Greedy decoding on `stages` of sequences by number, alone or in lanes."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages

    def prefill(self, prompt: Sequence[int]) -> Caches:
        """Caches after all but the last token of `prompt`."""
        caches = self.stages.caches = [shard.make_cache() for shard in self.stages.shards]
        if len(prompt) > 1:
            self.stages.step([list(prompt[:-1])])
        return caches

    def decode(self, caches: Caches, tokens: Sequence[int]) -> mx.array:
        """Logits [rows, V] after one more token a row."""
        self.stages.caches = caches
        return self.stages.step([[token] for token in tokens])[:, -1]


@pytest.fixture(scope="module", params=CONFIGS)
def sequences(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    path = write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)
    return Sequences(Stages.load(path, even_cuts(3, LAYERS), LAYERS))


def alone(sequences: Sequences, steps: int, prompts: Sequence[list[int]] = PROMPTS) -> list[list[mx.array]]:
    """Logits of `steps` greedy steps, for each prompt."""
    results = []
    for prompt in prompts:
        caches, token, logits = sequences.prefill(prompt), prompt[-1], []
        for _ in range(steps):
            logits.append(sequences.decode(caches, [token])[0])
            token = _likeliest(logits[-1])
        results.append(logits)
    return results


def test_rows_that_join_and_leave_a_lane_are_as_if_alone(sequences: Sequences) -> None:
    """0 decodes alone, 1 and 2 join, 3 joins, 1 leaves, 0 leaves for a lane of its own and joins again."""
    step = _following(sequences, PROMPTS)
    lane = sequences.prefill(PROMPTS[0])
    step(lane, [0])
    join(lane, sequences.prefill(PROMPTS[1]), sequences.prefill(PROMPTS[2]))
    step(lane, [0, 1, 2])
    join(lane, sequences.prefill(PROMPTS[3]))
    step(lane, [0, 1, 2, 3])
    for cache in lane:
        cache.keep([0, 2, 3])
    step(lane, [0, 2, 3])
    taken = [cache.split([0]) for cache in lane]
    step(taken, [0])
    step(lane, [2, 3])
    join(lane, taken)
    step(lane, [2, 3, 0])
    for cache in lane:
        cache.keep([0])
    assert lane[0].lengths == [len(PROMPTS[2]) - 1 + 5]
    step(lane, [2])


def test_rows_of_one_length_are_as_if_alone_also_once_another_joins(sequences: Sequences) -> None:
    """0 and 1 go together, 2 joins them when it is shorter, 0 leaves, 2 leaves, 0 joins 1 again at the same length."""
    step = _following(sequences, ALIKE)
    lane = sequences.prefill(ALIKE[0])
    join(lane, sequences.prefill(ALIKE[1]))
    for _ in range(2):
        step(lane, [0, 1])
    join(lane, sequences.prefill(ALIKE[2]))
    step(lane, [0, 1, 2])
    taken = [cache.split([0]) for cache in lane]
    step(lane, [1, 2])
    for cache in lane:
        cache.keep([0])
    step(taken, [0])
    join(lane, taken)
    for _ in range(2):
        step(lane, [1, 0])


def test_a_step_that_is_taken_back_leaves_no_trace(sequences: Sequences) -> None:
    step = _following(sequences, PROMPTS)
    lane = sequences.prefill(PROMPTS[0])
    join(lane, sequences.prefill(PROMPTS[1]), sequences.prefill(PROMPTS[2]))
    for _ in range(3):
        undo = [cache.mark() for cache in lane]
        sequences.decode(lane, [99, 98, 97])
        for back in undo:
            back()
        step(lane, [0, 1, 2])


def test_a_step_that_was_computed_is_taken_back_where_that_is_possible(sequences: Sequences) -> None:
    prompts = PROMPTS[:3]
    for members in ([0], [0, 1, 2]):
        step = _following(sequences, prompts)
        lane = sequences.prefill(prompts[0])
        join(lane, *map(sequences.prefill, prompts[1 : len(members)]))
        for _ in range(3):
            if not all(cache.can_step_back for cache in lane):
                pytest.skip("caches that do not keep every token in its place")
            sequences.decode(lane, [99, 98, 97][: len(members)])
            for cache in lane:
                cache.step_back()
            step(lane, members)


def _following(sequences: Sequences, prompts: Sequence[list[int]]) -> Callable[[Caches, Sequence[int]], None]:
    """One step of a lane at a time, whose rows are the `prompts` of these numbers: each must be as it is alone."""
    if not all(cache.is_batchable for cache in sequences.prefill(prompts[0])):
        pytest.skip("mlx-lm cannot batch these caches")
    expected = alone(sequences, 6, prompts)
    at = [0] * len(prompts)
    last = [prompt[-1] for prompt in prompts]

    def step(caches: Caches, members: Sequence[int]) -> None:
        logits = sequences.decode(caches, [last[member] for member in members])
        for row, member in enumerate(members):
            assert mx.allclose(logits[row], expected[member][at[member]], rtol=0, atol=TOLERANCE).item(), (members, row)
            last[member] = _likeliest(expected[member][at[member]])
            at[member] += 1

    return step


def join(caches: Caches, *others: Caches) -> None:
    for place, cache in enumerate(caches):
        cache.join([other[place] for other in others])


def test_a_copy_goes_its_own_way(sequences: Sequences) -> None:
    expected = alone(sequences, 2)[0]
    original = sequences.prefill(PROMPTS[0])
    copies = [cache.copy(cache.lengths[0]) for cache in original]
    duplicate = [cache for cache in copies if cache is not None]
    sequences.decode(original, [99])
    first = sequences.decode(duplicate, [PROMPTS[0][-1]])
    assert mx.array_equal(first[0], expected[0]).item()
    assert [cache.lengths for cache in original] == [cache.lengths for cache in duplicate]


def test_a_trimmed_copy_continues_as_the_shorter_prompt_would(sequences: Sequences) -> None:
    shorter, longer = PROMPTS[0], [*PROMPTS[0][:-1], 50, 51, 52, 53]
    caches = sequences.prefill(longer)
    if any(len(longer) > cache.trim_limit for cache in caches):
        assert all(cache.trim(4) == 0 for cache in caches if len(longer) > cache.trim_limit)
        return
    assert {cache.trim(3) for cache in caches} == {3}
    logits = sequences.decode(caches, [shorter[-1]])
    assert mx.allclose(logits[0], alone(sequences, 1)[0][0], rtol=0, atol=TOLERANCE).item()


def _likeliest(logits: mx.array) -> int:
    token: Any = mx.argmax(logits).item()
    return int(token)
