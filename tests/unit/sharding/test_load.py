"""Loading a stage from files: own layers alone, step by step, and nothing from a folder that cannot be trusted."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlxctl.errors import CheckpointError, IllegalCut
from mlxctl.sharding import LoadProgress, Shard, TensorHeader, load_model, safetensors_header
from mlxctl.sharding.model import build_skeleton, read_headers
from tests.stages import Stages
from tests.tiny_models import CONFIGS, LAYERS, layer_of, random_model, write_checkpoint, write_weights

pytestmark = pytest.mark.unit

PROMPT = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]]


def silent(_: LoadProgress) -> None:
    """Progress that nobody watches."""


def tensors_of(path: Path, wanted: Callable[[int], bool]) -> dict[str, tuple[Path, TensorHeader]]:
    """Tensors whose layer (-1: none) is wanted, with their files."""
    return {
        name: (file, header)
        for file in path.glob("*.safetensors")
        for name, header in safetensors_header(file).items()
        if wanted(layer_of(name, before=-1))
    }


def spoil(path: Path, layers: set[int]) -> None:
    """Overwrite the tensors of `layers` (-1: of none) with NaN."""
    for file, header in tensors_of(path, layers.__contains__).values():
        with file.open("r+b") as opened:
            opened.seek(header.start)
            opened.write(np.full(header.size_bytes // 4, np.nan, np.float32).tobytes())


def total_bytes(path: Path, wanted: Callable[[int], bool]) -> int:
    return sum(header.size_bytes for _, header in tensors_of(path, wanted).values())


@pytest.mark.parametrize(
    ("architecture", "unstacked"), [("llama", False), ("qwen3_moe", True), ("qwen3_next", False), ("mamba2", False)]
)
def test_weights_of_foreign_layers_are_never_read(tmp_path: Path, architecture: str, unstacked: bool) -> None:
    write_checkpoint(tmp_path, architecture, unstacked=unstacked)
    whole = Stages.load(tmp_path, [3, 5], LAYERS)
    expected = whole.step(PROMPT)
    parts = []
    for start, stop in ((0, 3), (3, 5), (5, LAYERS)):
        folder = tmp_path / f"{start}"
        write_checkpoint(folder, architecture, unstacked=unstacked)
        ends = start == 0 or stop == LAYERS
        spoil(folder, {*range(-1, LAYERS)} - {*range(start, stop)} - ({-1} if ends else set()))
        parts.append(load_model(folder, start, stop, on_progress=silent))
    assert mx.array_equal(Stages(parts).step(PROMPT), expected).item()


def settled_active_memory() -> int:
    """Bytes that MLX holds once arrays of earlier tests are gone: they die in cycles, whenever Python collects."""
    gc.collect()
    return int(mx.get_active_memory())


def test_a_middle_stage_holds_its_own_layers_and_nothing_else(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama", vocab_size=20_000, hidden_size=128)
    before = settled_active_memory()
    stage = load_model(tmp_path, 3, 5, on_progress=silent)
    own = total_bytes(tmp_path, lambda layer: 3 <= layer < 5)
    assert own <= mx.get_active_memory() - before < 1.05 * own
    stage.warm_up()
    assert mx.get_active_memory() - before < 1.05 * own


def test_a_stage_of_stacked_experts_peaks_at_its_share_and_one_layer(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen3_moe", unstacked=True, hidden_size=256, moe_intermediate_size=256)
    own = total_bytes(tmp_path, lambda layer: 2 <= layer < 6)
    before = settled_active_memory()
    mx.reset_peak_memory()
    stage = load_model(tmp_path, 2, 6, on_progress=silent)
    assert mx.get_peak_memory() - before < 1.05 * own + own / 4
    stage.warm_up()
    assert mx.get_active_memory() - before < 1.05 * own


def test_progress_counts_layers_and_bytes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen3")
    seen: list[LoadProgress] = []
    load_model(tmp_path, 2, 5, on_progress=seen.append)
    own = total_bytes(tmp_path, lambda layer: 2 <= layer < 5)
    assert [step.layers_done for step in seen] == [0, 1, 2, 3]
    assert (seen[0].bytes_done, seen[-1].bytes_done) == (0, own)
    assert {(step.layers_total, step.bytes_total) for step in seen} == {(3, own)}


def test_files_of_foreign_layers_need_not_be_there(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen3_moe", files=6, unstacked=True)
    expected = Stages.load(tmp_path, [4], LAYERS).step(PROMPT)
    absent, removed = without_foreign_files(tmp_path, 0, 4)
    assert removed
    first = load_model(tmp_path, 0, 4, on_progress=silent, absent=absent)
    first.warm_up()
    rest = write_checkpoint(tmp_path / "rest", "qwen3_moe", files=6, unstacked=True)
    last = load_model(rest, 4, LAYERS, on_progress=silent)
    assert mx.array_equal(Stages([first, last]).step(PROMPT), expected).item()


def without_foreign_files(path: Path, start: int, stop: int) -> tuple[dict[str, TensorHeader], list[Path]]:
    """Remove files without a tensor of [start, stop) or of no layer; what they held, and which."""
    absent: dict[str, TensorHeader] = {}
    removed = []
    for file in path.glob("*.safetensors"):
        headers = safetensors_header(file)
        if all(not start <= layer_of(name, before=start) < stop for name in headers):
            absent.update(headers)
            removed.append(file)
            file.unlink()
    return absent, removed


def test_an_own_weight_that_is_absent_shows_as_not_a_number(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen3", files=6)
    absent, _ = without_foreign_files(tmp_path, 0, 4)
    first = load_model(tmp_path, 0, 4, on_progress=silent, absent=absent)
    wrong = load_model(tmp_path, 4, LAYERS, on_progress=silent, absent=absent)
    assert mx.isnan(Stages([first, wrong]).step(PROMPT)).all().item()


def test_quantized_layers_load_and_run_as_the_whole_model_does(tmp_path: Path) -> None:
    path = write_quantized(tmp_path)
    whole = load_model(path, 0, LAYERS, on_progress=silent)
    assert mx.array_equal(Stages.load(path, [2, 7], LAYERS).step(PROMPT), Stages([whole]).step(PROMPT)).item()


def write_quantized(path: Path) -> Path:
    """4-bit weights, but 8-bit in groups of 32 in layer 0."""

    config: dict[str, Any] = {"model_type": "qwen3", **CONFIGS["qwen3"]}
    config["quantization"] = {"group_size": 64, "bits": 4}
    model = random_model(config)
    finer = {"group_size": 32, "bits": 8}

    def predicate(name: str, module: Any) -> Any:
        if not hasattr(module, "to_quantized"):
            return False
        if ".layers.0." in name:
            config["quantization"][name] = finer
            return finer
        return True

    nn.quantize(model, group_size=64, bits=4, class_predicate=predicate)
    return write_weights(path, config, dict(tree_flatten(model.parameters())))


def test_a_skeleton_is_built_without_any_weight_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen3_moe", unstacked=True)
    headers = read_headers(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    before = settled_active_memory()
    skeleton = build_skeleton(tmp_path, headers)
    assert skeleton.layer_count == LAYERS
    assert skeleton.config["model_type"] == "qwen3_moe"
    assert mx.get_active_memory() - before < 100_000


def load_any(path: Path) -> Shard:
    return load_model(path, 0, 4, on_progress=silent)


def edit_config(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    (path / "config.json").write_text(json.dumps(config))


def test_a_truncated_file_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path, "llama") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors .*truncated") as raised:
        load_any(tmp_path)
    assert raised.value.hint == "download or convert the model again"


def test_a_file_missing_from_the_index_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama", files=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks model-00002-of-00003"):
        load_any(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    (tmp_path / "model-copy.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="as another file does"):
        load_any(tmp_path)


def test_a_missing_weight_is_a_checkpoint_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, num_hidden_layers=9)
    with pytest.raises(CheckpointError, match="mlx-lm cannot build the llama model"):
        load_any(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_file": "evil.py"}, "its own code"),
        ({"model_type": "nonsense"}, "nonsense not supported"),
        ({"model_type": "../../etc"}, "cannot build"),
        ({"model_type": None}, "names no model_type"),
        ({"hidden_size": "many"}, "cannot build"),
        ({"model_type": "olmo"}, "cannot import"),
    ],
)
def test_a_config_that_cannot_be_trusted_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=says):
        load_any(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    write_checkpoint(tmp_path, "llama")
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_any(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_any(tmp_path)
    write_checkpoint(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="no safetensors"):
        load_any(tmp_path)


def test_an_illegal_stage_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    seen: list[LoadProgress] = []
    with pytest.raises(IllegalCut):
        load_model(tmp_path, 5, 5, on_progress=seen.append)
    assert not seen
