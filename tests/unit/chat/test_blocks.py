"""Markdown is cut where a finished block may be printed for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.chat.blocks import BlockSplitter, split

pytestmark = pytest.mark.unit

LINES = st.sampled_from(
    [
        "",
        "a",
        "b c",
        "- x",
        "* y",
        "12. z",
        "  more",
        "    code",
        "\tcode",
        "```",
        "```py",
        "~~~",
        "> q",
        "# h",
        "| a |",
        " ",
    ]
)
MARKDOWN = st.lists(LINES).map("\n".join) | st.text("ab \n`~-1.#\t", max_size=60) | st.text()


@given(MARKDOWN)
def test_blocks_and_rest_joined_are_the_text(text: str) -> None:
    blocks, rest = split(text)
    assert "".join(blocks) + rest == text


@given(MARKDOWN, MARKDOWN)
def test_what_follows_never_changes_a_finished_block(text: str, more: str) -> None:
    finished = split(text)[0]
    assert split(text + more)[0][: len(finished)] == finished


@given(st.lists(MARKDOWN))
def test_feeding_pieces_gives_the_blocks_of_the_whole(pieces: list[str]) -> None:
    splitter = BlockSplitter()
    blocks = [block for piece in pieces for block in splitter.feed(piece)]
    assert (blocks, splitter.rest) == split("".join(pieces))


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("one\n\ntwo", ["one\n\n"]),
        ("one\ntwo\n", []),
        ("one\n\n", []),
        ("# title\n\ntext\n\nmore", ["# title\n\n", "text\n\n"]),
        ("```\na\n\nb\n```\n", ["```\na\n\nb\n```\n"]),
        ("```\na\n\nb\n", []),
        ("text\n```py\ncode", ["text\n"]),
        ("````\n```\n````\nx", ["````\n```\n````\n"]),
        ("~~~\n```\n~~~\nx", ["~~~\n```\n~~~\n"]),
        ("- a\n\n- b\n\n  still b\n\n", []),
        ("- a\n\n- b\n\nafter\n", ["- a\n\n- b\n\n"]),
        ("1. a\n\n   ```\n   code\n   ```\n\n2. b\n", []),
        ("intro:\n- a\n\n- b\n", []),
        ("    code\n\n    more\n", []),
    ],
)
def test_a_block_is_finished_where_markdown_ends_it(text: str, blocks: list[str]) -> None:
    assert split(text)[0] == blocks


def test_a_list_waits_for_a_whole_line_since_that_may_be_its_next_item() -> None:
    assert split("- a\n\n1")[0] == []
    assert split("- a\n\n1. b\n")[0] == []
    assert split("- a\n\n1b\n")[0] == ["- a\n\n"]
