"""How many lanes, and how large a prefill chunk: laws over measured step times. Pure; called by the scheduler.

With S sequences in L lanes on N stages, every sequence gets a token once a cycle: the slowest stage runs L steps in it,
and one lane passes all stages. Splitting a batch over lanes therefore gains where compute binds, and nothing where the
weights' bandwidth does.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlxctl.coordinator.step_times import CHUNKS, StepTimes

LANES_PER_STAGE = 2
BETTER = 0.9  # another number of lanes must take less than this share of the cycle to be worth a change
LEAST_CHUNK_ALONE = 128  # smaller ones starve matrix products
FIRST_CHUNK_ALONE = 256  # from here sizes are tried by doubling and halving, as far as it pays
# Of the best time known: so much better a smaller size must be hoped to be for its trials, and so much worse a larger
# one may be: each shape costs a device a while, and large chunks have few.
CLEARLY = 0.05
FIRST_CHUNK_AMONG_STREAMS = 8  # before anything is known: on a slow device even these may be felt
COMMON_CHUNK = 16  # smaller ones only where their tokens take less than STARVED of its tokens' time
STARVED = 1.75
STALL = 1.2  # of a running stream's cycle: what a chunk may add to it (a gap of 3 is too much, and times vary)
READING_S = 0.15  # people read 5 to 8 tokens a second: a chunk that takes no longer is hardly noticed
SHORT_PROMPT = 512  # tokens: longer ones leave streams their pace, however fast they are read


def cycle_s(times: StepTimes, sequences: int, lanes: int) -> float | None:
    """Seconds in which each of `sequences` gets a token; None where nothing was measured yet."""
    step = times.decode(-(-sequences // lanes))
    return None if step is None else max(lanes * step.slowest_s, step.total_s)


def lane_count(times: StepTimes, stages: int, sequences: int, now: int) -> int:
    """The number of lanes for `sequences`; `now` is what there is, kept unless another is clearly better."""
    most = max(1, min(sequences, LANES_PER_STAGE * stages))
    preferred = now if 1 <= now <= most and now >= min(stages, most) else min(stages, most)
    best, best_s = preferred, cycle_s(times, sequences, preferred)
    if best_s is None:
        return preferred
    for lanes in range(1, most + 1):
        lanes_s = cycle_s(times, sequences, lanes)
        if lanes_s is not None and lanes_s < (BETTER * best_s if best == preferred else best_s):
            best, best_s = lanes, lanes_s
    return best


def chunk_tokens(
    times: StepTimes, stages: int, prompts: Sequence[int], limit: int, stream_cycle_s: float | None, streams: int
) -> int:
    """Tokens of each chunk of `prompts` of so many tokens, at most `limit`.

    Beside running `streams`, whose tokens come every `stream_cycle_s` (None: not measured yet), a chunk delays them:
    the slowest stage's time for it, once at every stage. The more prompts wait for each stream, the longer it may;
    where all are short, at least as long as nobody minds if it holds a whole one, or if more wait than run: cut up,
    they would delay the streams for longer in all. It is very small where even a common one delays them too much and
    matrix products gain little by size. Alone, chunks follow each other through the stages: small ones fill them
    sooner, large ones waste less.
    """
    sizes = _sizes(limit)
    if not streams:
        return _tokens_alone(times, stages, sum(prompts), _ladder(limit))
    if stream_cycle_s is None or times.chunk(sizes[0]) is None:
        return min(FIRST_CHUNK_AMONG_STREAMS, sizes[-1])
    most_s = STALL * stream_cycle_s * max(1.0, len(prompts) / streams)
    is_crowded = len(prompts) > streams
    if max(prompts) <= SHORT_PROMPT and (is_crowded or _stall_s(times, stages, min(prompts)) <= READING_S):
        most_s = max(most_s, READING_S)
    fitting = [size for size in sizes if _stall_s(times, stages, size) <= most_s]
    common = min(COMMON_CHUNK, sizes[-1])
    return max([common if is_crowded else _least_worthwhile(times, sizes, common), *fitting])


def worth_another_trial(times: StepTimes, stages: int, prompt: int, limit: int) -> list[int]:
    """The sizes next to the one in which a `prompt` of so many tokens that comes alone would go."""
    ladder = _ladder(limit)
    place = ladder.index(_tokens_alone(times, stages, prompt, ladder))
    return [*ladder[max(0, place - 1) : place], *ladder[place + 1 : place + 2]]


def _ladder(limit: int) -> list[int]:
    """The sizes that are tried where nothing is decoded."""
    sizes = _sizes(limit)
    return [size for size in sizes if size >= LEAST_CHUNK_ALONE and size.bit_count() == 1] or sizes[-1:]


def _sizes(limit: int) -> list[int]:
    return [size for size in CHUNKS if size <= limit] or [limit]


def _tokens_alone(times: StepTimes, stages: int, tokens: int, ladder: list[int]) -> int:
    """The size whose trial may pay, or else the best of those that have had theirs."""
    worth_trying = _worth_trying(times, ladder, min(FIRST_CHUNK_ALONE, tokens // stages))
    alone_s = {size: _alone_s(times, stages, tokens, size) for size in worth_trying}
    believed = [size for size in worth_trying if times.is_believed(size)]
    best = min(reversed(believed), key=lambda size: alone_s[size], default=worth_trying[-1])
    trials = [
        size
        for size in worth_trying
        if size not in believed and alone_s[size] < (1 + (CLEARLY if size > best else -CLEARLY)) * alone_s[best]
    ]
    return min(reversed(trials), key=lambda size: alone_s[size], default=best)


def _worth_trying(times: StepTimes, ladder: list[int], first: int) -> list[int]:
    """The sizes of `ladder` that are known, and the next ones: each new size costs a device some cold steps."""
    known = [place for place, size in enumerate(ladder) if times.is_tried(size)]
    if not known:
        return [next((size for size in ladder if size >= first), ladder[-1])]
    return ladder[max(0, known[0] - 1) : known[-1] + 2]


def _least_worthwhile(times: StepTimes, sizes: list[int], common: int) -> int:
    def token_s(size: int) -> float:
        return _stall_s(times, 1, size) / size

    return next(size for size in sizes if token_s(size) <= STARVED * token_s(common))


def _stall_s(times: StepTimes, stages: int, size: int) -> float:
    chunk = times.chunk(size)
    return 0.0 if chunk is None else stages * chunk.slowest_s


def _alone_s(times: StepTimes, stages: int, tokens: int, size: int) -> float:
    """Until the last chunk has passed the last stage; in a token's own time where nothing was measured yet."""
    chunk_s = times.hoped_chunk_s(size) or float(size)
    return (max(1.0, tokens / size) + stages - 1) * chunk_s
