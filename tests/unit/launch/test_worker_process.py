"""What is heard from a worker: lines, however they arrive."""

from __future__ import annotations

import asyncio

import pytest

from mlxctl.launch.worker_process import LINE_LIMIT_BYTES, LineReader

pytestmark = pytest.mark.unit


async def lines_of(*chunks: bytes) -> list[str]:
    stream = asyncio.StreamReader()
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    reader = LineReader(stream)
    found = []
    while (line := await reader.line()) is not None:
        found.append(line)
    return found


async def test_lines_come_out_whole_however_they_were_cut() -> None:
    assert await lines_of(b"on", b"e\ntw", b"o\n\nthree\n") == ["one", "two", "", "three"]


async def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert await lines_of(b"\xff!\n") == ["\N{REPLACEMENT CHARACTER}!"]


async def test_of_an_endless_line_only_the_end_is_kept() -> None:
    (line,) = await lines_of(b"x" * (2 * LINE_LIMIT_BYTES) + b"end\n")
    assert len(line) < LINE_LIMIT_BYTES and line.endswith("end")


async def test_a_last_line_without_its_end_is_not_a_line() -> None:
    assert await lines_of(b"one\ntw") == ["one"]
