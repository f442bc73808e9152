"""The `mlxctl` command: the table of verbs, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import io
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mlxctl import __version__
from mlxctl.chat.nearest import nearest
from mlxctl.errors import MlxctlError, ProfileError
from mlxctl.paths import make_home


@dataclass(frozen=True, slots=True)
class Verb:
    """`mlxctl NAME` runs the function NAME of the module mlxctl.cli.NAME; `line` is its help without importing it.
    `mlxctl NAME PART` runs the function PART of mlxctl.cli.NAME_PART.
    """

    name: str
    line: str
    hidden: bool = False
    parts: tuple[str, ...] = ()

    def stub(self) -> TyperCommand:
        return TyperCommand(self.name, help=self.line, hidden=self.hidden, rich_markup_mode=None)

    def load(self, part: str | None = None) -> Any:
        module = f"mlxctl.cli.{self.name}_{part}" if part else f"mlxctl.cli.{self.name}"
        function = getattr(import_module(module), part or self.name)
        verb = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        verb.command(part or self.name)(function)
        return typer.main.get_command(verb)


VERBS = (
    Verb("up", "Bring a cluster up and serve its API."),
    Verb("down", "Drain a cluster, stop its workers, check that nothing is left."),
    Verb("status", "Show stages, layers, memory, speed and queue of a cluster."),
    Verb("chat", "Talk to the model: a conversation, or one answer on stdout."),
    Verb(
        "bench",
        "Measure what 1, 2, 4 … devices give, and report it.",
        parts=("compare", "engine", "http", "links", "show"),
    ),
    Verb("plan", "Show which node would run which layers, and why."),
    Verb("logs", "Show the logs of all nodes, merged and labelled."),
    Verb("check", "Compare a model run in parts with the model run whole."),
    Verb("models", "List models and layers, bring them to nodes, make room."),
    Verb("init", "Write a profile by probing hosts."),
    Verb("doctor", "Check nodes, links and ports; say what mends each failure."),
    Verb("wheelhouse", "Download what nodes install, for nodes without internet."),
    Verb("facts", "Say what this machine is; asked by a coordinator.", hidden=True),
    Verb("worker", "Run the layers of one stage; started by a coordinator.", hidden=True),
    Verb("rank", "Exchange messages with other ranks; started by `mlxctl bench links`.", hidden=True),
    Verb("daemon", "Coordinate one cluster; started by `mlxctl up`.", hidden=True),
)
_LIST_HINT = "`mlxctl --help` lists them."
_VERB_BY_NAME = {verb.name: verb for verb in VERBS}


class VerbGroup(TyperGroup):
    """Lists verbs by their stubs and imports only the one that runs: `--help` stays fast whatever verbs import."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({verb.name: verb.stub() for verb in VERBS})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = nearest(args[0], (verb.name for verb in VERBS if not verb.hidden))
            ctx.fail(f"No such command '{args[0]}'. " + (f"Did you mean {' or '.join(near)}?" if near else _LIST_HINT))
        name, command, rest = super().resolve_command(ctx, args)
        if not name:
            return name, command, rest
        verb = _VERB_BY_NAME[name]
        if rest and rest[0] in verb.parts:
            return f"{name} {rest[0]}", verb.load(rest[0]), rest[1:]
        return name, verb.load(), rest


app = typer.Typer(
    cls=VerbGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich would double the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlxctl {__version__}")
        raise typer.Exit


@app.callback()
def mlxctl(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Turn a handful of Macs into one machine for large language models."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code; every error ends in lines on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets a question mark, not a crash
    try:
        app(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except MlxctlError as error:
        return _report(error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _report_crash(error)
    return 0


def _report(error: MlxctlError) -> int:
    if _debugging():
        traceback.print_exception(error)
    problems = error.problems if isinstance(error, ProfileError) else [error.line]
    for problem in problems:
        _say(f"error: {problem}")
    for line in error.log_lines:
        if error.message not in line and (error.hint is None or error.hint not in line):
            _say(f"  | {line}")
    if error.hint:
        _say(f"  hint: {error.hint}")
    return error.exit_code


def _report_crash(error: Exception) -> int:
    if _debugging():
        traceback.print_exception(error)
    summary = " ".join(str(error).split())
    _say(f"internal error: {type(error).__name__}: {summary}" if summary else f"internal error: {type(error).__name__}")
    written = _write_crash_log(error)
    if written is not None:
        _say(f"  hint: this is a mistake in mlxctl; what happened is in {written}")
    return 1


def _write_crash_log(error: Exception) -> Path | None:
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"{stamp} mlxctl {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    try:
        path = make_home() / "crash.log"
        path.write_text(text + "".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, MlxctlError):
        return None
    return path


def _debugging() -> bool:
    return os.environ.get("MLXCTL_DEBUG", "") not in ("", "0")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
