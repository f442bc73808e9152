"""`mlxctl check`: is a model cut into stages the same as the model whole? For one model, or for every architecture."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxctl.cli.output import console, format_bytes, print_json, say
from mlxctl.errors import CheckpointError, DoesNotFit, UsageError

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "mlxctl.check/1"
PROMPT_LENGTHS = (5, 33, 120)
DECODED = 8
_STYLES = {"exact": "green", "wrong": "bold red", "not splittable": "yellow", "not testable": "dim"}


def check(
    model: Annotated[str | None, typer.Argument(help="canary, a folder, or a hub id in the local cache")] = None,
    cuts: Annotated[list[str] | None, typer.Option(help="cut before these layers, as in 4,12; may be repeated")] = None,
    every: Annotated[bool, typer.Option("--all", help="tiny random models of every architecture in mlx-lm")] = False,
    only: Annotated[list[str] | None, typer.Option(help="with --all: this case alone; may be repeated")] = None,
    tests: Annotated[
        Path | None, typer.Option(help="with --all: mlx-lm's test_models.py, else pip fetches it", exists=True)
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="with --all: processes at a time; default: the cores")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one document on stdout")] = False,
) -> None:
    """Compare a model run in parts with the model run whole, logit by logit. Exit code 1: a cut changes the result."""
    from mlxctl.sharding.check import environment

    if every == (model is not None):
        raise UsageError("name one model, or give --all", hint="for example: mlxctl check canary")
    found = check_architectures(only or [], tests, jobs) if every else [check_model(model or "", cuts or [])]
    if as_json:
        print_json({"schema": SCHEMA, **environment(), "summary": summary(found), "models": found})
    else:
        console().print(render(found, splits=not every))
        console().print(", ".join(f"{count} {verdict}" for verdict, count in summary(found).items()))
    if any(entry["verdict"] == "wrong" for entry in found):
        raise typer.Exit(1)


def check_model(name: str, cuts: Sequence[str]) -> dict[str, Any]:
    """The document of one model on disk. Raises CheckpointError, IllegalCut, DoesNotFit, UsageError."""
    from mlxctl.checkpoint import resolve_model
    from mlxctl.sharding.check import FolderSource, document, judge
    from mlxctl.sharding.model import read_config, read_headers
    from mlxctl.sharding.support import unsupported_here

    asked = [parse_cuts(text) for text in cuts]
    path = _with_weights(name, resolve_model(name))
    config = read_config(path)
    _check_memory(name, sum(header.size_bytes for header in read_headers(path).values()))
    if reason := unsupported_here(config, path):
        return {
            "name": name,
            "verdict": "not testable",
            "reason": reason,
            "layers": 0,
            "illegal_cuts": {},
            "splits": [],
        }
    prompts = list(sampled_prompts(config))
    return document(name, judge(FolderSource(path), prompts, DECODED, asked or None))


def check_architectures(only: Sequence[str], tests: Path | None, jobs: int | None) -> list[dict[str, Any]]:
    """The documents of all cases, or of `only` some. Raises CheckpointError, UsageError."""
    from mlxctl.sharding.matrix import all_cases, check_all, mlx_lm_tests

    with nullcontext(tests) if tests else mlx_lm_tests() as source:
        cases = all_cases(source)
        if unknown := set(only) - {case.name for case in cases}:
            raise UsageError(f"no case {min(unknown)!r}", hint=f"there are {', '.join(case.name for case in cases)}")
        wanted = [case for case in cases if not only or case.name in only]
        found = []
        for entry in check_all(wanted, source, jobs):
            found.append(entry)
            say(f"{len(found)}/{len(wanted)} {entry['name']}: {entry['verdict']}")
    return sorted(found, key=lambda entry: str(entry["name"]).casefold())


def parse_cuts(text: str) -> tuple[int, ...]:
    """`4,12` → (4, 12). Raises UsageError."""
    try:
        cuts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--cuts {text}: not a list of layers", hint="for example: --cuts 4,12") from None
    if list(cuts) != sorted(set(cuts)):
        raise UsageError(f"--cuts {text}: layers must rise", hint=f"--cuts {','.join(map(str, sorted(set(cuts))))}")
    return cuts


def sampled_prompts(config: dict[str, Any]) -> Iterable[list[list[list[int]]]]:
    """Prompts of random tokens, always the same ones, each in two chunks."""
    vocabulary = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 256
    chance = random.Random(0)  # noqa: S311
    for length in PROMPT_LENGTHS:
        tokens = [chance.randrange(vocabulary) for _ in range(length)]
        yield [[tokens[: length // 2]], [tokens[length // 2 :]]]


def summary(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Models by verdict."""
    counts = Counter(entry["verdict"] for entry in found)
    return {verdict: counts[verdict] for verdict in _STYLES if counts[verdict]}


def render(found: Sequence[dict[str, Any]], *, splits: bool) -> Table:
    """One row a model; with `splits`, one row each way it was cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "layers", "cut before", "result", "crosses a cut", "why", box=None, pad_edge=False)
    for entry in found:
        result = Text(entry["verdict"], style=_STYLES[entry["verdict"]])
        widest = max((split["payload_bytes"] for split in entry["splits"]), default=0)
        crosses = f"{format_bytes(widest)} a token" if widest else ""
        table.add_row(entry["name"], str(entry["layers"] or ""), legal_text(entry), result, crosses, entry["reason"])
        for split in entry["splits"] if splits else ():
            table.add_row("", "", ", ".join(map(str, split["cuts"])), split_text(split), "", split["error"] or "")
    return table


def split_text(split: dict[str, Any]) -> str:
    if split["error"]:
        return "failed"
    if split["difference"] == 0:
        return "exact, but what crosses grows" if split["payload_grows"] else "exact"
    return "not a number" if split["difference"] is None else f"differs by {split['difference']:.3g}"


def legal_text(entry: dict[str, Any]) -> str:
    """Where the model may be cut: `any of 1 … 7`, or what remains of that."""
    legal = [cut for cut in range(1, entry["layers"]) if str(cut) not in entry["illegal_cuts"]]
    if not legal:
        return ""
    return f"any of 1 … {legal[-1]}" if len(legal) == legal[-1] else ", ".join(map(str, legal))


def _with_weights(name: str, path: Path) -> Path:
    """The folder of all weights of the model: `path`, or, of one on a hub, this machine's layer store. Raises
    CheckpointError if neither has them all.
    """
    from mlxctl.checkpoint.files import hub_commit
    from mlxctl.checkpoint.hub import HEADERS
    from mlxctl.paths import store_dir
    from mlxctl.worker.layer_store import LayerStore

    if not (path / HEADERS).is_dir():
        return path
    commit, store = hub_commit(path), LayerStore(store_dir())
    for model in store.models():
        origin = model.manifest.origin
        if origin and commit and (origin.repo, origin.commit) == (commit.repo, commit.commit):
            with suppress(CheckpointError):
                return store.require(model.key, 0, model.manifest.layer_count)[0]
    raise CheckpointError(
        f"this machine does not have all weights of {name}", hint=f"mlxctl models pull {name}, or: hf download {name}"
    )


def _check_memory(name: str, weight_bytes: int) -> None:
    import psutil

    available_bytes = psutil.virtual_memory().available
    if weight_bytes > available_bytes:
        raise DoesNotFit(
            f"{name} needs {format_bytes(weight_bytes)} to run whole, {format_bytes(available_bytes)} are free here",
            hint="check it on a machine that holds the whole model, or check a smaller one of its architecture",
        )
