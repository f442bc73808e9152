"""What is on the screen once an answer has ended."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mlxctl.chat.events import Chunk
from mlxctl.chat.view import MarkdownView, PlainView, View

pytestmark = pytest.mark.unit

MARKDOWN = "\n\n## Title\n\nSome *words*.\n\n- one\n- two\n\n```py\nx = 1\n```\n\nEnd."


def shown(kind: type[View], chunks: list[Chunk], *, terminal: bool = False, height: int = 25) -> str:
    file = io.StringIO()
    out = Console(file=file, width=60, height=height, force_terminal=terminal, no_color=True, highlight=False)
    with kind(out) as view:
        for chunk in chunks:
            view.show(chunk)
    return file.getvalue()


def lines(text: str) -> list[str]:
    return text.splitlines()


def letters(text: str) -> list[Chunk]:
    return [Chunk(letter) for letter in text]


def test_markdown_is_drawn_with_one_blank_line_between_blocks() -> None:
    text = shown(MarkdownView, letters(MARKDOWN))
    assert lines(text) == ["Title", "", "Some words.", "", " • one", " • two", "", " x = 1", "", "End."]


def test_pieces_of_any_size_give_the_same_picture() -> None:
    assert shown(MarkdownView, letters(MARKDOWN)) == shown(MarkdownView, [Chunk(MARKDOWN)])


def test_thinking_stands_before_the_answer_and_a_blank_line_between() -> None:
    chunks = [Chunk(reasoning="\nhm,"), Chunk(reasoning=" so\n"), Chunk(reasoning="\n"), Chunk("\n\nYes.")]
    assert lines(shown(MarkdownView, chunks)) == ["hm, so", "", "Yes."]


def test_thinking_that_never_leads_to_an_answer_is_shown() -> None:
    assert lines(shown(MarkdownView, [Chunk(reasoning="hm")])) == ["hm", ""]


def test_an_answer_that_never_comes_shows_nothing() -> None:
    assert shown(MarkdownView, []).strip() == ""
    assert shown(PlainView, []) == ""


def test_a_long_open_block_is_on_the_screen_in_whole_at_the_end() -> None:
    text = shown(MarkdownView, [Chunk("```\n" + "".join(f"line {i}\n" for i in range(50)))], height=10)
    assert [line.strip() for line in lines(text)] == [f"line {i}" for i in range(50)]


@pytest.mark.parametrize("kind", [MarkdownView, PlainView])
def test_an_answer_that_fails_half_way_keeps_what_came(kind: type[View]) -> None:
    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt), kind(Console(file=file, width=60)) as view:
        view.show(Chunk("half an"))
        raise KeyboardInterrupt
    assert file.getvalue() == "half an\n"


@pytest.mark.parametrize("kind", [MarkdownView, PlainView])
def test_a_model_cannot_send_escape_sequences(kind: type[View]) -> None:
    assert "\x1b" not in shown(kind, [Chunk("\x1b[2Jgone"), Chunk(reasoning="\x1b]0;title\x07")])


def test_plain_text_is_passed_on_as_it_is() -> None:
    chunks = [Chunk(reasoning="\nhm"), Chunk("\n\n# Title\n"), Chunk("*words* :smile: [bold]x[/]")]
    assert shown(PlainView, chunks) == "(thinking) hm\n# Title\n*words* :smile: [bold]x[/]\n"


def test_plain_text_holds_no_escape_sequence_even_on_a_terminal() -> None:
    assert "\x1b" not in shown(PlainView, [Chunk("words")], terminal=True)
