"""Suggestions for mistyped words are near, or there are none."""

from __future__ import annotations

import pytest

from mlxctl.chat.nearest import nearest

pytestmark = pytest.mark.unit

COMMANDS = ("help", "system", "set", "show", "save", "load", "clear", "retry", "stats", "bye")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("hlep", "help"),
        ("sav", "save"),
        ("cler", "clear"),
        ("sys", "system"),
        ("status", "stats"),
        ("loads", "load"),
        ("sett", "set"),
        ("syestm", "system"),
    ],
)
def test_a_typo_or_a_beginning_is_understood(word: str, meant: str) -> None:
    assert nearest(word, COMMANDS) == (meant,)


@pytest.mark.parametrize("word", ["stop", "edit", "reset", "model", "history", "new", "undo", "s", "", "x" * 500])
def test_nothing_far_fetched_is_suggested(word: str) -> None:
    assert nearest(word, COMMANDS) == ()


def test_a_beginning_of_several_means_all_of_them() -> None:
    assert nearest("top", ("top_p", "top_k", "stop")) == ("top_p", "top_k")
