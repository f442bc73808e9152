"""A crash loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.journal import JournalWriter, read_journal
from mlxctl.errors import UsageError
from tests.unit.bench.samples import journal

pytestmark = pytest.mark.unit


def write(path: Path, lines: int | None = None) -> None:
    made = journal()
    with JournalWriter(path) as writer:
        for line in (made.head, *made.visits, *made.runs, *((made.end,) if made.end else ()))[:lines]:
            writer.write(line)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    assert read_journal(tmp_path / "a.jsonl") == journal()


def test_a_line_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    made = journal()
    with JournalWriter(tmp_path / "a.jsonl") as writer:
        writer.write(made.head)
        writer.write(made.visits[0])
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, lines=12)
    path.write_text(path.read_text()[:-40])
    found = read_journal(path)
    assert (len(found.runs), found.end) == (12 - 1 - 4 - 1, None)
    assert build(found).how_it_ended == "crashed"


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, lines=4)
    path.write_text(path.read_text().replace('"kind":"visit"', '"kind":"nonsense"', 1))
    with pytest.raises(UsageError, match=r"a\.jsonl:2 is no line of a bench journal"):
        read_journal(path)


def test_a_journal_without_a_head_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(UsageError, match="has one head"):
        read_journal(tmp_path / "a.jsonl")


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"), JournalWriter(tmp_path / "no" / "a.jsonl"):
        pass
