"""Prompts have the length that was asked for, and are equal for equal seeds only."""

from __future__ import annotations

import pytest

from mlxctl.bench.prompts import Prompter, fitted
from mlxctl.bench.records import Workload
from tests.api_server import canary_tokenizer
from tests.unit.bench.samples import DECODE

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("tokens", [16, 64, 128, 512, 1000])
def test_a_prompt_is_exactly_as_long_as_asked(tokens: int) -> None:
    tokenizer = canary_tokenizer()
    workload = Workload(id="x", kind="prefill", prompt_tokens=tokens, output_tokens=1)
    for index in range(5):
        messages = Prompter(0, tokenizer).conversation(workload, index)
        assert len(tokenizer.render(messages).ids) == tokens


def test_equal_seeds_ask_equal_things() -> None:
    one, other = (Prompter(7, canary_tokenizer()).conversation(DECODE, 3, 1) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(("seed", "index", "stream"), [(8, 3, 1), (7, 4, 1), (7, 3, 2)])
def test_another_seed_run_or_stream_asks_something_else_from_the_first_words_on(
    seed: int, index: int, stream: int
) -> None:
    here = Prompter(7, canary_tokenizer()).conversation(DECODE, 3, 1)[0]["content"]
    there = Prompter(seed, canary_tokenizer()).conversation(DECODE, index, stream)[0]["content"]
    assert here.split()[:4] != there.split()[:4]


def test_without_a_tokenizer_a_prompt_has_as_many_words() -> None:
    assert len(Prompter(0, None).conversation(DECODE, 0)[0]["content"].split()) == 64


def test_a_prompt_is_never_longer_than_asked() -> None:
    assert fitted(["ab", "cd", "ef"], 7, len) == "ab cd a"


def test_a_prompt_has_one_word_at_least() -> None:
    assert fitted(["word"], 1, len) == "word"
