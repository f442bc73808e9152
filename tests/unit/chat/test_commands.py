"""A typed line is a command, a message, or a mistake with a suggestion."""

from __future__ import annotations

import pytest

from mlxctl.chat.commands import NAMES, Command, parse
from mlxctl.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", NAMES)
def test_every_listed_command_is_understood(name: str) -> None:
    assert parse(f"{name}  the argument ") == Command(name, "the argument")


@pytest.mark.parametrize(("synonym", "name"), [("/exit", "/bye"), ("/quit", "/bye"), ("/?", "/help")])
def test_synonyms_are_understood(synonym: str, name: str) -> None:
    assert parse(synonym) == Command(name, "")


def test_a_line_without_slash_is_a_message() -> None:
    assert parse("What is 1/2?") == "What is 1/2?"


def test_a_space_before_the_slash_makes_it_a_message() -> None:
    assert parse(" /etc/passwd, what is that?") == "/etc/passwd, what is that?"


@pytest.mark.parametrize(("typed", "meant"), [("/hlep", "/help"), ("/sav x", "/save"), ("/quti", "/bye")])
def test_an_unknown_command_gets_the_nearest_one_suggested(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match="no command") as caught:
        parse(typed)
    assert meant in str(caught.value.hint)


def test_a_command_like_nothing_we_know_points_to_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        parse("/12345")
    assert "/help" in str(caught.value.hint)
