"""The command's options; measuring itself is a benchmark."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Mlxctl

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--streams", "x"], "--streams 'x' is no list of numbers"),
        (["--streams", "1,8"], "2 stages need totals of 2 or more"),
        (["--only", "wire,cables"], "there is no cables"),
        (["--only", "server", "--model", "random:qwen3-8b-4bit"], "mlx_lm.server needs weights in files"),
        (["-o", "report.pdf"], "no such format"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused_before_anything_runs(mlxctl: Mlxctl, options: list[str], message: str) -> None:
    outcome = mlxctl("bench", "engine", *options)
    assert outcome.code in (1, 2)
    assert message in outcome.err
    assert "Traceback" not in outcome.err
