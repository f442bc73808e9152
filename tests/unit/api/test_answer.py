"""Answers read from tokens, whatever way the tokens arrive."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.api.answer import AnswerFormat, AnswerReader, ChatFinishReason, Delta
from mlxctl.request import FinishReason
from mlxctl.tokenizer import Tokenizer
from tests.api_server import canary_tokenizer
from tests.canary_expectations import EXPECTATIONS, Expectation

pytestmark = pytest.mark.unit

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
WITH_TOOLS = AnswerFormat(tools=(TOOL,))


def read(text: str, answer_format: AnswerFormat = WITH_TOOLS) -> Delta:
    tokenizer = canary_tokenizer()
    reader = AnswerReader(tokenizer, answer_format)
    total = reader.feed(tokenizer.encode(text))
    total += reader.finish()
    return total


def ended(text: str, reason: FinishReason, answer_format: AnswerFormat = WITH_TOOLS) -> ChatFinishReason:
    tokenizer = canary_tokenizer()
    reader = AnswerReader(tokenizer, answer_format)
    reader.feed(tokenizer.encode(text))
    reader.finish()
    return reader.finish_reason(reason)


@pytest.mark.parametrize("case", EXPECTATIONS.values(), ids=str)
def test_an_answer_of_the_canary_is_taken_apart(tokenizer: Tokenizer, case: Expectation) -> None:
    total = read(case.text, AnswerFormat(stops=case.stop, tools=case.tools))
    calls = tuple({"name": call.name, "arguments": json.loads(call.arguments)} for call in total.tool_calls)
    assert (total.content, total.reasoning or None, calls) == (case.content, case.reasoning, case.tool_calls)


PARTS = st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", CALL, "text", "\n", "é😀", "stop", "st"])


@given(st.lists(PARTS, max_size=10).map("".join), st.lists(st.integers(0, 200), max_size=6))
def test_how_tokens_arrive_does_not_change_what_is_read(text: str, cuts: list[int]) -> None:
    tokenizer = canary_tokenizer()
    ids = tokenizer.encode(text)
    answer_format = AnswerFormat(stops=("stop",), tools=(TOOL,))
    whole, pieces = AnswerReader(tokenizer, answer_format), AnswerReader(tokenizer, answer_format)
    expected, total = whole.feed(ids), Delta()
    expected += whole.finish()
    bounds = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    for start, stop in itertools.pairwise(bounds):
        total += pieces.feed(ids[start:stop])
    total += pieces.finish()
    assert (total.content, total.reasoning) == (expected.content, expected.reasoning)
    assert [call.arguments for call in total.tool_calls] == [call.arguments for call in expected.tool_calls]
    assert (pieces.completion_tokens, pieces.stopped) == (whole.completion_tokens, whole.stopped)


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=4), max_size=4))
def test_text_without_markers_is_the_whole_text_up_to_a_stop_string(text: str, stops: list[str]) -> None:
    content = read(text, AnswerFormat(stops=tuple(stops))).content
    assert text.startswith(content) and not any(stop in content for stop in stops)
    assert content == text or any(text[len(content) :].startswith(stop) for stop in stops)


def test_tokens_after_a_stop_string_are_not_counted(tokenizer: Tokenizer) -> None:
    reader = AnswerReader(tokenizer, AnswerFormat(stops=(",",)))
    first = len(tokenizer.encode("1,"))
    reader.feed(tokenizer.encode("1, 2, 3"))
    assert reader.stopped and reader.completion_tokens <= first


def test_a_stop_string_in_thinking_or_in_a_call_does_not_end_the_answer() -> None:
    total = read(f"<think>\nEND\n</think>\n\nyes {CALL}", AnswerFormat(stops=("END", "arguments"), tools=(TOOL,)))
    assert (total.reasoning, total.content, len(total.tool_calls)) == ("END", "yes ", 1)


def test_thinking_that_never_ends_is_reasoning() -> None:
    total = read("<think>\nfor ever\n")
    assert (total.reasoning, total.content) == ("for ever\n", "")


def test_thinking_that_the_template_opened_is_reasoning() -> None:
    total = read("hm\n</think>\n\nyes", AnswerFormat(state="reasoning"))
    assert (total.reasoning, total.content) == ("hm", "yes")


def test_a_call_without_tools_is_text() -> None:
    assert read(CALL, AnswerFormat()).content == CALL


def test_text_around_calls_is_content() -> None:
    total = read(f"one\n{CALL}\n{CALL}\ntwo")
    assert total.content == "onetwo" and len(total.tool_calls) == 2


def test_every_call_has_an_id_of_its_own() -> None:
    first, second = read(CALL + CALL).tool_calls
    assert first.id != second.id and first.id.startswith("call_")


@pytest.mark.parametrize(
    "broken",
    [
        "<tool_call>\nnonsense\n</tool_call>",
        '<tool_call>\n{"name": "f", "argum',
        "<tool_call>",
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>',
    ],
)
def test_a_call_that_cannot_be_read_is_text_so_that_nothing_is_lost(broken: str) -> None:
    total = read(broken)
    assert total.content == broken and not total.tool_calls


def test_the_beginning_of_a_marker_at_the_end_is_text() -> None:
    assert read("a <").content == "a <"


def test_an_answer_with_a_call_ends_for_the_call() -> None:
    assert ended(CALL, "stop") == "tool_calls"


def test_an_answer_cut_short_says_so_even_with_a_call() -> None:
    assert ended(CALL, "length") == "length"


def test_a_stop_string_in_the_last_token_allowed_is_a_stop() -> None:
    assert ended("a stop", "length", AnswerFormat(stops=("stop",))) == "stop"
