"""Workers of one machine share its GPUs out among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.launch.gpus import gpu_environment

pytestmark = pytest.mark.unit


def test_gpus_are_dealt_out_in_turn(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    seen = [gpu_environment(index, {}, tmp_path) for index in range(3)]
    assert seen == [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "1", "0")]


def test_only_gpus_that_the_user_chose_are_used(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert gpu_environment(1, {"CUDA_VISIBLE_DEVICES": "5,7"}, tmp_path) == {"CUDA_VISIBLE_DEVICES": "7"}
    assert gpu_environment(1, {"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == {}


def test_a_machine_without_gpus_has_nothing_to_deal_out(tmp_path: Path) -> None:
    assert gpu_environment(0, {}, tmp_path) == {}
