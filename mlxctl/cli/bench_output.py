"""Where a bench writes its report: the files of `-o` by suffix, and the journal beside the first. Used by `bench`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from mlxctl.bench.report import Report
from mlxctl.cli.output import say
from mlxctl.errors import UsageError

Writer = Callable[[Report], str]


def _json(report: Report) -> str:
    return report.to_json()


def _html(report: Report) -> str:
    from mlxctl.bench.html import to_html

    return to_html(report)


def _markdown(report: Report) -> str:
    from mlxctl.bench.tables import to_markdown

    return to_markdown(report)


def _csv(report: Report) -> str:
    from mlxctl.bench.tables import to_csv

    return to_csv(report)


WRITERS: dict[str, Writer] = {".json": _json, ".html": _html, ".md": _markdown, ".csv": _csv}


def outputs(asked: Sequence[Path], name: str) -> list[Path]:
    """The files to write; one JSON here if nobody asked for any. Raises UsageError before anything is measured."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    files = list(asked) or [Path(f"bench-{name}-{stamp}.json")]
    check_suffixes(files)
    return files


def check_suffixes(files: Sequence[Path], known: Collection[str] = WRITERS.keys()) -> None:
    """Raises UsageError for a file that could not be written later."""
    for file in files:
        if file.suffix not in known:
            raise UsageError(f"-o {file}: no such format", hint=f"end it in one of {', '.join(known)}")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"-o {file}: there is no folder {file.absolute().parent}")


def journal_path(files: Sequence[Path]) -> Path:
    """The journal's file, which is beside the first output."""
    return files[0].with_suffix(".jsonl")


def write_all(report: Report, files: Sequence[Path]) -> None:
    """Write every file and say so. Raises UsageError."""
    for file in files:
        write_text(file, WRITERS[file.suffix](report))


def write_text(file: Path, text: str) -> None:
    """Write `file` and say so. Raises UsageError."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    say(f"wrote {file}")
