"""The lines of figures name what is known and leave out what is not."""

from __future__ import annotations

import pytest

from mlxctl.chat.answer import Answer
from mlxctl.chat.client import Served
from mlxctl.chat.events import Usage
from mlxctl.chat.figures import Totals, footer, greeting, stage_lines, toolbar
from tests.scripted_api import STATUS

pytestmark = pytest.mark.unit

OURS = Served("canary", "local", 4096, 2)
FOREIGN = Served("other")
ANSWER = Answer("x", "", "stop", Usage(9, 11), ttft_s=0.5, elapsed_s=2.5)


def test_the_footer_tells_latency_speed_tokens_and_stages() -> None:
    assert footer(ANSWER, OURS) == "first token 500 ms · 5.0 tok/s · 11 tokens · 2 stages"


def test_the_footer_of_another_server_has_no_stages() -> None:
    assert footer(ANSWER, FOREIGN) == "first token 500 ms · 5.0 tok/s · 11 tokens"


def test_the_footer_says_when_the_answer_was_cut() -> None:
    answer = Answer("x", "", "length", None, 1.5, 1.5)
    assert footer(answer, FOREIGN) == "first token 1.5 s · cut at the token limit (/set max_tokens)"


def test_the_toolbar_tells_how_full_the_context_is() -> None:
    assert toolbar(OURS, ANSWER) == "canary · local, 2 stages · context 20 of 4096 · /help"
    assert toolbar(OURS, None) == "canary · local, 2 stages · context 4096 · /help"
    assert toolbar(FOREIGN, None) == "other · /help"


def test_the_greeting_names_the_cluster_or_the_address() -> None:
    assert greeting(OURS, "http://a/v1").startswith("canary on local (2 stages).")
    assert greeting(FOREIGN, "http://a/v1").startswith("other on http://a/v1.")


def test_the_name_of_a_private_cluster_is_nobodys_business() -> None:
    private = Served("canary", "private-0123abcd", 4096, 2)
    assert greeting(private, "http://a/v1").startswith("canary on a private cluster (2 stages).")
    assert toolbar(private, None).startswith("canary · a private cluster, 2 stages")


def test_totals_average_over_the_time_of_decoding() -> None:
    untimed = Answer("x", "", "stop", Usage(9, 1), ttft_s=0.5, elapsed_s=0.5)
    totals = Totals().plus(ANSWER).plus(ANSWER).plus(untimed)
    assert totals.line() == "3 answers, 23 tokens, 5.0 tok/s on average"


def test_totals_of_nothing_have_no_speed() -> None:
    assert Totals().line() == "0 answers, 0 tokens"


def test_every_stage_has_a_line() -> None:
    assert stage_lines(STATUS)[1] == "stage 1  worker-2  layers 4 to 7  busy 50%  ready"
