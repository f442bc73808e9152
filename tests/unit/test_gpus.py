"""Workers of one machine share its GPUs out among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.gpus import gpu_environment, has_nvidia_devices, is_gpu_shared

pytestmark = pytest.mark.unit


def test_gpus_are_dealt_out_in_turn(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    seen = [gpu_environment(index, 3, {}, tmp_path) for index in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen] == ["0", "1", "0"]


def test_a_worker_knows_whether_another_one_has_its_gpu(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1"):
        (tmp_path / name).touch()
    assert not is_gpu_shared(gpu_environment(1, 2, {}, tmp_path))
    assert is_gpu_shared(gpu_environment(1, 3, {}, tmp_path))


def test_only_gpus_that_the_user_chose_are_used(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert gpu_environment(1, 2, {"CUDA_VISIBLE_DEVICES": "5,7"}, tmp_path) == {"CUDA_VISIBLE_DEVICES": "7"}
    assert gpu_environment(1, 2, {"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == {}


def test_a_machine_without_gpus_has_nothing_to_deal_out(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert gpu_environment(0, 1, {}, tmp_path) == {}
    assert not has_nvidia_devices(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_nvidia_devices(tmp_path)
