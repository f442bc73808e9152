"""The engine, small: stages against one and against mlx-lm, the whole product against mlx_lm.server, the wire.

`mlxctl bench engine` measures the same on any model, longer.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlxctl.bench.report import EngineFigure
from mlxctl.bench.tables import engine_cells
from mlxctl.bench_engine.figures import EngineBench
from tests.benchmarks.models import write_chatting_qwen3

pytestmark = pytest.mark.performance

# About 4 ms a token: eight clients and prompts of a thousand tokens are to end soon.
SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def measured(bench: EngineBench, benchmark: Any, capsys: pytest.CaptureFixture[str]) -> list[EngineFigure]:
    """All figures of `bench`, printed as they come."""

    async def measure() -> list[EngineFigure]:
        found = []
        async for figure in bench.figures(lambda what: None):
            found.append(figure)
            with capsys.disabled():
                print("\n" + " | ".join(filter(None, engine_cells(figure))), end="", flush=True)
        return found

    figures: list[EngineFigure] = benchmark.pedantic(lambda: asyncio.run(measure()), rounds=1, iterations=1)
    benchmark.extra_info.update({figure.name: figure.summary.median for figure in figures})
    return figures


def test_stages_against_one_and_against_mlx_lm(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_chatting_qwen3(tmp_path)
    groups = ("single", "streams", "prefill")
    bench = EngineBench(str(folder), folder, 2, 2, (8,), groups, tokens=16, long_prompt_tokens=256)
    assert len(measured(bench, benchmark, capsys)) == 6


def test_the_whole_product_against_mlx_lm(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_chatting_qwen3(tmp_path, **SMALL)
    bench = EngineBench(str(folder), folder, 2, 1, (8,), ("product", "server", "chat"))
    assert len(measured(bench, benchmark, capsys)) == 4


def test_the_wire(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = EngineBench("canary", tmp_path, 2, 3, (8,), ("wire",))
    assert len(measured(bench, benchmark, capsys)) == 5
