"""The command's frame: verbs are imported when they run, and every error ends in lines and an exit code."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from mlxctl import __version__
from mlxctl.cli import main
from mlxctl.cli.main import VERBS, run
from mlxctl.errors import Degraded, MlxctlError, NotRunning, Problem, ProfileError, TimedOut
from tests.unit.cli.conftest import Mlxctl

pytestmark = pytest.mark.unit

HEAVY = ("rich", "httpx2", "prompt_toolkit", "pydantic", "yaml", "grpc", "mlx", "numpy", "uvicorn")


@pytest.fixture
def status_raises(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> list[BaseException]:
    """`mlxctl status` raises what is put into this list."""
    errors: list[BaseException] = []

    def fail() -> None:
        raise errors[0]

    monkeypatch.setattr("mlxctl.cli.status.status", fail)
    return errors


def test_help_lists_the_verbs_with_a_line_each(mlxctl: Mlxctl) -> None:
    outcome = mlxctl("--help")
    assert outcome.code == 0
    assert all(verb.name in outcome.out and verb.line in outcome.out for verb in VERBS if not verb.hidden)


def test_help_does_not_list_hidden_verbs(mlxctl: Mlxctl) -> None:
    assert "daemon" not in mlxctl("--help").out


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    program = (
        "import sys; from mlxctl.cli.main import run; run(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules],"
        "[name for name in sys.modules if name.startswith('mlxctl.cli.') and name != 'mlxctl.cli.main'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] []"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if find_spec(f"mlxctl.cli.{verb.name}")], ids=lambda v: v.name)
def test_every_verb_explains_itself(verb: main.Verb, mlxctl: Mlxctl) -> None:
    outcome = mlxctl(verb.name, "--help")
    assert outcome.code == 0
    assert f"{verb.name} [OPTIONS]" in outcome.out


def test_the_version_is_printed(mlxctl: Mlxctl) -> None:
    assert mlxctl("--version").out == f"mlxctl {__version__}\n"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "mlxctl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mlxctl {__version__}\n"


def test_a_mistyped_verb_gets_a_suggestion(mlxctl: Mlxctl) -> None:
    outcome = mlxctl("stauts")
    assert outcome.code == 2
    assert "Did you mean status?" in outcome.err


@pytest.mark.parametrize("arguments", [("status", "--nonsense"), ("logs", "a", "b"), ("status", "--interval", "x")])
def test_a_usage_error_exits_with_2(mlxctl: Mlxctl, arguments: tuple[str, ...]) -> None:
    assert mlxctl(*arguments).code == 2


@pytest.mark.parametrize("error", [NotRunning("x"), Degraded("x"), TimedOut("x"), MlxctlError("x")], ids=repr)
def test_an_error_of_ours_exits_with_its_code(
    mlxctl: Mlxctl, status_raises: list[BaseException], error: MlxctlError
) -> None:
    status_raises.append(error)
    assert mlxctl("status").code == error.exit_code


def test_an_error_of_ours_is_a_line_and_a_hint(mlxctl: Mlxctl, status_raises: list[BaseException]) -> None:
    status_raises.append(NotRunning("nothing is there", hint="mlxctl up", node="mini1"))
    outcome = mlxctl("status")
    assert (outcome.out, outcome.err) == ("", "error: node mini1: nothing is there\n  hint: mlxctl up\n")


def test_every_problem_of_a_profile_has_its_line(mlxctl: Mlxctl, status_raises: list[BaseException]) -> None:
    problems = [Problem("a.yaml", 3, "api.port", "is no number", "8100"), Problem("a.yaml", 5, "x", "is unknown")]
    status_raises.append(ProfileError(problems))
    outcome = mlxctl("status")
    assert outcome.code == 2
    assert outcome.err == "error: a.yaml:3: api.port: is no number (8100)\nerror: a.yaml:5: x: is unknown\n"


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (typer.Exit(5), 5), (BrokenPipeError(32, "Broken pipe"), 1)]
)
def test_an_interruption_is_silent(
    mlxctl: Mlxctl, status_raises: list[BaseException], error: BaseException, code: int
) -> None:
    status_raises.append(error)
    outcome = mlxctl("status")
    assert (outcome.code, outcome.out, outcome.err) == (code, "", "")


def test_a_mistake_of_ours_is_one_line_and_a_crash_log(
    mlxctl: Mlxctl, status_raises: list[BaseException], own_home: Path
) -> None:
    status_raises.append(ZeroDivisionError("division\nby zero"))
    outcome = mlxctl("status")
    log = own_home / "crash.log"
    assert outcome.code == 1
    assert outcome.err.startswith("internal error: ZeroDivisionError: division by zero\n  hint: ")
    assert str(log) in outcome.err
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert "Traceback" not in outcome.err


def test_the_traceback_is_shown_to_who_asks_for_it(
    mlxctl: Mlxctl, status_raises: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXCTL_DEBUG", "1")
    status_raises.append(NotRunning("x"))
    assert "Traceback" in mlxctl("status").err


def test_a_home_that_cannot_be_written_does_not_hide_the_mistake(
    mlxctl: Mlxctl, status_raises: list[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path / "file" / "below"))
    status_raises.append(ZeroDivisionError("x"))
    assert mlxctl("status").err == "internal error: ZeroDivisionError: x\n"


def test_a_reader_that_leaves_early_is_no_error(own_home: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m mlxctl --help | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_run_returns_what_the_process_exits_with(own_home: Path) -> None:
    assert run(["--version"]) == 0


@pytest.mark.parametrize("word", ["stop", "list", "ps", "run", "fact"])
def test_a_word_like_no_verb_gets_no_far_fetched_suggestion(mlxctl: Mlxctl, word: str) -> None:
    outcome = mlxctl(word)
    assert outcome.code == 2
    assert f"No such command '{word}'. `mlxctl --help` lists them." in outcome.err
