"""Any number of stages gives the tokens and the very logits of one unsplit mlx-lm model on the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm import load, stream_generate
from mlx_lm.utils import load_model as load_whole
from mlx_lm.utils import load_tokenizer

from mlxctl.canary import MODEL_DIR
from mlxctl.request import Sampling
from mlxctl.sharding import sample
from tests.stages import Stages, even_cuts
from tests.tiny_models import CONFIGS, LAYERS, VOCABULARY, write_checkpoint

pytestmark = pytest.mark.model

TOKENS = 24
PROMPT = [(17 * index + 3) % VOCABULARY for index in range(21)]  # longer than the windows, so that caches wrap
QUESTION = [{"role": "user", "content": "Who are you?"}]

Draw = tuple[list[int], list[mx.array]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny checkpoint of an architecture, written once a session."""
    written: dict[str, Path] = {}

    def of(architecture: str) -> Path:
        if architecture not in written:
            folder = tmp_path_factory.mktemp(architecture)
            written[architecture] = write_checkpoint(folder, architecture, unstacked=architecture == "qwen3_moe")
        return written[architecture]

    return of


def unsplit(path: Path, prompt: Sequence[int]) -> Draw:
    """What `mlx_lm.stream_generate` draws greedily, and the log probabilities it draws from."""
    model, _ = load_whole(path)
    tokenizer = load_tokenizer(MODEL_DIR)
    tokenizer.eos_token_ids = []  # never stop early
    answers = list(stream_generate(model, tokenizer, list(prompt), max_tokens=TOKENS))
    return [answer.token for answer in answers], [answer.logprobs for answer in answers]


def split(stages: Stages, prompt: list[int]) -> Draw:
    """The same with `stages`, in steps of the same shapes: all but the last prompt token, then one by one."""
    stages.step([prompt[:-1]])
    tokens, logprobs, last = [], [], prompt[-1]
    for _ in range(TOKENS):
        logits = stages.step([[last]])[:, -1, :]
        logprobs.append((logits - mx.logsumexp(logits, keepdims=True)).squeeze(0))
        draw = sample(logits, [Sampling()], [0])
        mx.eval(draw.arrays)
        (last,) = draw.tokens()
        tokens.append(last)
    return tokens, logprobs


def assert_same(ours: Draw, theirs: Draw) -> None:
    assert ours[0] == theirs[0]
    assert all(mx.array_equal(one, other).item() for one, other in zip(ours[1], theirs[1], strict=True))


@pytest.mark.parametrize("stages", [1, 2, 3, 8])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_stages_give_the_tokens_and_logits_of_one_model(
    architecture: str, stages: int, checkpoint: Callable[[str], Path]
) -> None:
    path = checkpoint(architecture)
    theirs = unsplit(path, PROMPT)
    assert len(set(theirs[0])) > 4, "a model that repeats itself proves little"
    assert_same(split(Stages.load(path, even_cuts(stages, LAYERS), LAYERS), PROMPT), theirs)


@pytest.mark.parametrize("stages", [1, 2, 3, 8])
def test_stages_of_the_canary_give_its_tokens_and_logits(stages: int) -> None:
    tokenizer = load_tokenizer(MODEL_DIR)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)
    ours = split(Stages.load(MODEL_DIR, even_cuts(stages, LAYERS), LAYERS), prompt)
    assert_same(ours, unsplit(MODEL_DIR, prompt))
    assert "Canary" in tokenizer.decode(ours[0])


def test_uneven_stages_give_the_tokens_and_logits_of_one_model(checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint("gemma3_text")
    assert_same(split(Stages.load(path, [1, 7], LAYERS), PROMPT), unsplit(path, PROMPT))


def test_several_sequences_in_one_lane_give_what_each_gives_alone(checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint("qwen3")
    other = PROMPT[::-1]
    together = Stages.load(path, [3], LAYERS)
    alone = Stages.load(path, [3], LAYERS)
    both, single = together.step([PROMPT, other]), alone.step([other])
    assert mx.allclose(both[1], single[0], atol=1e-4).item()
    assert mx.argmax(both[1], -1).tolist() == mx.argmax(single[0], -1).tolist()


def test_what_crosses_a_cut_does_not_grow_with_the_context(checkpoint: Callable[[str], Path]) -> None:
    stages = Stages.load(checkpoint("deepseek_v3"), [2, 5], LAYERS)
    stages.step([PROMPT])
    stages.step([[1]])
    short = stages.sent_bytes
    stages.step([PROMPT * 4])
    stages.step([[1]])
    assert stages.sent_bytes == short


def test_a_trimmed_cache_continues_as_if_the_tokens_had_never_come(checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint("llama")
    stages, straight = Stages.load(path, [4], LAYERS), Stages.load(path, [4], LAYERS)
    stages.step([PROMPT])
    stages.step([[1, 2, 3]])
    assert [cache.trim(3) for cache in stages.caches] == [3, 3]
    straight.step([PROMPT])
    assert mx.array_equal(stages.step([[9]]), straight.step([[9]])).item()


def test_the_canary_loads_as_mlx_lm_loads_it() -> None:
    whole, _ = load(str(MODEL_DIR))
    prompt = [[1, 5, 9]]
    assert mx.array_equal(Stages.load(MODEL_DIR, [], LAYERS).step(prompt), whole(mx.array(prompt))).item()
