"""A model cannot steer the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.chat.visible import visible

pytestmark = pytest.mark.unit


@given(st.text())
def test_nothing_but_line_ends_and_tabs_controls_the_terminal(text: str) -> None:
    assert not any(char < " " or "\x7f" <= char < "\xa0" for char in visible(text) if char not in "\n\t")


def test_words_of_any_script_stay() -> None:
    assert visible("a\tb\nç 世界 😀") == "a\tb\nç 世界 😀"


def test_escape_sequences_lose_their_power() -> None:
    assert visible("\x1b[31mred\x1b]0;title\x07") == "[31mred]0;title"
