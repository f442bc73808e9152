"""Logs of several nodes are one stream, across rotation and truncation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlxctl.cli.log_lines import LogStream, parse_since
from mlxctl.errors import UsageError

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def stamped(second: int, text: str) -> str:
    return f"2026-11-21T06:31:{second:02}.000Z {text}\n"


def write(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def texts(stream: LogStream) -> list[str]:
    return [line.text for line in stream.new_lines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "a.log", stamped(1, "one"), stamped(3, "three"))
    write(tmp_path / "b.log", stamped(2, "two"), stamped(4, "four"))
    return tmp_path


@pytest.fixture
def stream(folder: Path) -> Iterator[LogStream]:
    with LogStream(folder) as whole:
        yield whole


def test_lines_of_all_nodes_come_in_the_order_of_time(stream: LogStream) -> None:
    lines = [(line.node, line.text) for line in stream.new_lines()]
    assert lines == [("a", "one"), ("b", "two"), ("a", "three"), ("b", "four")]


def test_only_the_wanted_nodes_are_read(folder: Path) -> None:
    with LogStream(folder, lambda node: node == "b") as stream:
        assert texts(stream) == ["two", "four"]


def test_a_node_that_comes_later_is_read_too(folder: Path, stream: LogStream) -> None:
    texts(stream)
    write(folder / "c.log", stamped(0, "late"))
    assert texts(stream) == ["late"]


def test_a_line_without_a_stamp_stays_with_the_line_before_it(folder: Path, stream: LogStream) -> None:
    write(folder / "c.log", stamped(2, "Traceback"), "  File x\n", stamped(9, "later"))
    assert texts(stream)[1:4] == ["two", "Traceback", "  File x"]


def test_the_older_file_comes_first(folder: Path, stream: LogStream) -> None:
    write(folder / "a.log.1", stamped(0, "zero"))
    assert texts(stream)[:2] == ["zero", "one"]


def test_only_what_is_new_comes_the_next_time(folder: Path, stream: LogStream) -> None:
    texts(stream)
    write(folder / "a.log", stamped(5, "five"))
    assert texts(stream) == ["five"]
    assert texts(stream) == []


def test_an_unfinished_line_waits_for_its_end(folder: Path, stream: LogStream) -> None:
    texts(stream)
    write(folder / "a.log", "2026-11-21T06:31:05.000Z fi")
    assert texts(stream) == []
    write(folder / "a.log", "ve\n")
    assert texts(stream) == ["five"]


def test_nothing_is_lost_or_doubled_when_the_file_is_rotated(folder: Path, stream: LogStream) -> None:
    texts(stream)
    write(folder / "a.log", stamped(5, "five"))
    (folder / "a.log").rename(folder / "a.log.1")
    write(folder / "a.log", stamped(6, "six"))
    assert texts(stream) == ["five", "six"]


def test_a_truncated_file_is_read_from_its_beginning(folder: Path, stream: LogStream) -> None:
    texts(stream)
    (folder / "a.log").write_text(stamped(7, "7"), encoding="utf-8")
    assert texts(stream) == ["7"]


def test_a_file_that_is_removed_and_comes_back_is_read(folder: Path, stream: LogStream) -> None:
    texts(stream)
    (folder / "a.log").unlink()
    assert texts(stream) == []
    write(folder / "a.log", stamped(8, "eight"))
    assert texts(stream) == ["eight"]


def test_bytes_that_are_no_text_are_shown_all_the_same(folder: Path, stream: LogStream) -> None:
    (folder / "c.log").write_bytes(b"2026-11-21T06:31:05.000Z \xff\n")
    assert texts(stream)[-1] == "\ufffd"


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("30s", "2026-11-21T11:59:30.000Z"),
        ("10m", "2026-11-21T11:50:00.000Z"),
        ("2h", "2026-11-21T10:00:00.000Z"),
        ("1d", "2026-11-20T12:00:00.000Z"),
        ("2026-11-21T06:31:34.5Z", "2026-11-21T06:31:34.500Z"),
        ("2026-11-21T06:31:34+02:00", "2026-11-21T04:31:34.000Z"),
    ],
)
def test_a_time_is_an_age_or_a_date(text: str, stamp: str) -> None:
    assert parse_since(text, NOW) == stamp


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-5m", "99999999999d", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_since(text, NOW)
