"""What a stage holds against its share of the weights: each loads in a process of its own and is measured there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxctl.sharding import safetensors_header
from tests.benchmarks.models import write_qwen3
from tests.tiny_models import LAYERS, layer_of, write_checkpoint

pytestmark = pytest.mark.performance

STAGES = ((0, 3), (3, 6), (6, 8))
MIB = 1 << 20
CODE_BYTES = 24 * MIB  # of mlx-lm's modules, graphs and a warm-up, whatever the share

# Resident memory is counted from after the imports and a first computation; MLX's own counts start at 0.
LOAD = """
import json, sys
from pathlib import Path
import mlx.core as mx
import psutil
from mlxctl.sharding import load_model

mx.eval(mx.ones((8, 8)) @ mx.ones((8, 8)))
rss = psutil.Process().memory_info().rss
mx.reset_peak_memory()
stage = load_model(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), on_progress=lambda _: None)
stage.warm_up()
mx.clear_cache()
print(json.dumps({
    "active": mx.get_active_memory(),
    "peak": mx.get_peak_memory(),
    "rss": psutil.Process().memory_info().rss - rss,
}))
"""


def share_bytes(path: Path, start: int, stop: int) -> int:
    """Bytes of the layers [start, stop), of the embedding on the first stage and of norm and head on the last."""
    total = 0
    for name, header in safetensors_header(path / "model.safetensors").items():
        layer = layer_of(name, before=0 if "embed" in name else LAYERS - 1)
        total += header.size_bytes if start <= layer < stop else 0
    return total


def loaded(path: Path, start: int, stop: int) -> dict[str, int]:
    command = [sys.executable, "-c", LOAD, str(path), str(start), str(stop)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, int] = json.loads(done.stdout)
    return measured


@pytest.mark.parametrize(
    "kind", ["dense, 4-bit", "dense, float32", "dense, float32, 200 MiB a layer", "experts to be stacked, float32"]
)
def test_what_a_stage_holds(kind: str, benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "dense, 4-bit":
        write_qwen3(tmp_path, hidden_size=1024, intermediate_size=3072, num_attention_heads=16)
    elif kind == "dense, float32":
        write_checkpoint(tmp_path, "qwen3", hidden_size=512, intermediate_size=2048)
    elif "200 MiB" in kind:
        write_checkpoint(tmp_path, "qwen3", hidden_size=2048, intermediate_size=8192)
    else:
        write_checkpoint(tmp_path, "qwen3_moe", unstacked=True, hidden_size=512, moe_intermediate_size=1024)
    measured = benchmark.pedantic(lambda: [loaded(tmp_path, *stage) for stage in STAGES], rounds=1)
    shares = {stage: share_bytes(tmp_path, *stage) for stage in (*STAGES, (3, 4))}
    (tmp_path / "model.safetensors").unlink()  # up to 1.6 GB
    with capsys.disabled():
        print(f"\n{kind}: MiB of each stage's share, and what its process holds")
        for (start, stop), held in zip(STAGES, measured, strict=True):
            share, layer = shares[start, stop], shares[3, 4]
            figures = "  ".join(f"{name} {held[name] / MIB:7.1f}" for name in ("active", "peak", "rss"))
            of_share = f"active {held['active'] / share:.3f}, rss {held['rss'] / share:.3f} of share"
            print(f"  [{start}, {stop})  share {share / MIB:7.1f}  {figures}  {of_share}")
            benchmark.extra_info[f"{start}-{stop}"] = {"share": share, **held}
            assert held["active"] <= 1.05 * share + MIB
            assert held["rss"] <= 1.05 * share + (layer if "experts" in kind else 0) + CODE_BYTES
            assert held["peak"] <= 1.05 * share + (layer if "experts" in kind else 0) + MIB
