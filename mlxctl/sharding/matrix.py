"""Every architecture checked in a process of its own, capped in time and memory. Called by `mlxctl check --all`.

`python -m mlxctl.sharding.matrix CASE [TESTS]`, CASE as JSON, is that process: lines of JSON on stdout, the last one
the finding.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx_lm

from mlxctl.errors import CheckpointError
from mlxctl.sharding import architectures
from mlxctl.sharding.architectures import Case
from mlxctl.sharding.check import Finding, MemorySource, Tokens, document, judge
from mlxctl.sharding.support import needs_metal

TIMEOUT_S = 180
MEMORY_BYTES = 16 << 30  # of address space, most of which is never touched
DECODED = 6
VOCABULARY = 30  # token ids that every tiny model knows
PROMPT: list[Tokens] = [
    [[(7 * place + 3) % VOCABULARY for place in range(11)]],
    [[(5 * place + 1) % VOCABULARY for place in range(7)]],
]
TESTS_IN_ARCHIVE = "tests/test_models.py"


def all_cases(tests: Path | None) -> list[Case]:
    """Our cases, then those of mlx-lm's tests for modules that ours leave out, then modules that nobody covers."""
    own = architectures.own_cases()
    covered = {case.module for case in own}
    theirs = [case for case in (architectures.cases_of_tests(tests) if tests else []) if case.module not in covered]
    covered.update(case.module for case in theirs)
    rest = [Case(module, module) for module in architectures.modules() if module not in covered]
    return sorted([*own, *theirs, *rest], key=lambda case: case.name.casefold())


def check_all(cases: Sequence[Case], tests: Path | None, jobs: int | None = None) -> Iterator[dict[str, Any]]:
    """The document of each case as it is done, `jobs` at a time (default: one a core)."""
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1, thread_name_prefix="check") as pool:
        futures = [pool.submit(check_case, case, tests) for case in cases]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)


def check_case(case: Case, tests: Path | None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The document of one case, from a process of its own."""
    if case.config is None and not case.test:
        return document(case.name, Finding("not testable", "there is no tiny config for it"))
    command = [sys.executable, "-m", __name__, json.dumps(asdict(case)), *([str(tests)] if tests else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return document(case.name, Finding("not testable", f"it took longer than {timeout_s:.0f} s"))
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if lines and "verdict" in lines[-1]:
        found: dict[str, Any] = lines[-1]
        return found
    last_words = (done.stderr.strip().splitlines() or [""])[-1]
    how = f"the process died ({_ending(done.returncode)}): {last_words}".removesuffix(": ")
    # Before the whole model has run, whatever happens is not a matter of cuts.
    return document(case.name, Finding("wrong", how) if lines else Finding("not testable", how))


@contextmanager
def mlx_lm_tests() -> Iterator[Path]:
    """The model tests of the installed mlx-lm, from its source distribution, which pip fetches. They are part of
    mlx-lm, and are run as such. Raises CheckpointError.
    """
    wanted = f"mlx-lm=={mlx_lm.__version__}"
    with TemporaryDirectory(prefix="mlxctl-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "mlx-lm"]
        done = subprocess.run([*command, "--dest", folder, wanted], capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tar.gz"))
        if done.returncode or not archives:
            last_words = (done.stderr.strip().splitlines() or [""])[-1]
            raise CheckpointError(
                f"pip could not fetch the source of {wanted}: {last_words}",
                hint="name an unpacked copy with --tests FOLDER/tests/test_models.py",
            )
        tests = Path(folder) / "test_models.py"
        tests.write_bytes(_member(archives[0], TESTS_IN_ARCHIVE))
        yield tests


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile() and member.name.partition("/")[2] == name and (content := opened.extractfile(member)):
                return content.read()
    raise CheckpointError(f"{archive.name} holds no {name}")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _find(case: Case, tests: Path | None) -> Finding:
    try:
        source = MemorySource(architectures.build(case, tests))
        return judge(source, [PROMPT], DECODED, on_whole=lambda: _say({"whole": True}))
    except SystemExit:  # mlx-lm's olmo
        return Finding("not testable", "importing it ends the process: a package it needs is not installed")
    except Exception as error:
        reason = needs_metal(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Finding("not testable", reason)


def _say(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _main(case: Case, tests: Path | None) -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    _say(document(case.name, _find(case, tests)))


if __name__ == "__main__":
    _main(Case(**json.loads(sys.argv[1])), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
