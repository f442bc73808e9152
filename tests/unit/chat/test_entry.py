"""Several lines can be typed in three ways."""

from __future__ import annotations

import pytest

from mlxctl.chat.entry import is_complete, message

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("text", ["hello", "", '"""one\ntwo"""', '""""""', "a\\\nb", 'say """ now'])
def test_a_complete_entry_is_sent(text: str) -> None:
    assert is_complete(text)


@pytest.mark.parametrize("text", ["hello\\", '"""', '"""one', '"""one\ntwo', '""""', "a\\\nb\\"])
def test_an_open_entry_gets_another_line(text: str) -> None:
    assert not is_complete(text)


def test_triple_quotes_are_not_part_of_the_message() -> None:
    assert message('"""\none\n  two\n"""') == "one\n  two"


def test_a_backslash_at_the_end_of_a_line_is_not_part_of_the_message() -> None:
    assert message("one\\\ntwo") == "one\ntwo"


def test_an_entry_of_one_line_is_the_message() -> None:
    assert message("hello") == "hello"
