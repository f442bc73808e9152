"""The engine's figures on a model of about 24 ms a token: several stages against one, and against mlx-lm alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlxctl.bench_engine.figures import EngineBench, Figure
from tests.benchmarks.models import write_qwen3

pytestmark = pytest.mark.performance


def test_stages_against_one_and_against_mlx_lm(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_qwen3(tmp_path)
    bench = EngineBench(str(folder), folder, stages=2, rounds=2, sequences=(8,))

    async def measured() -> list[Figure]:
        return [figure async for figure in bench.figures(lambda what: None)]

    figures = benchmark.pedantic(lambda: asyncio.run(measured()), rounds=1, iterations=1)
    benchmark.extra_info.update({figure.name: figure.median for figure in figures})
    with capsys.disabled():
        for figure in figures:
            wanted = "" if figure.wanted is None else f", at least {figure.wanted:.2f}"
            low, high = min(figure.ratios), max(figure.ratios)
            print(f"\n{figure.name}: {figure.median:.3f} [{low:.3f} to {high:.3f}]{wanted} {figure.note}", end="")
        print()
    assert len(figures) == 6
