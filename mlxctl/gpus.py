"""One NVIDIA GPU for each worker of this machine, where it has several. Called as workers are started, and by them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
SHARED = "MLXCTL_GPU_IS_SHARED"


def gpu_environment(
    index: int, count: int, environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> dict[str, str]:
    """What makes the worker `index` of `count` see one GPU alone, and know whether another one has it too: they are
    dealt out in turn. Empty without GPUs.

    GPUs that the user has chosen by CUDA_VISIBLE_DEVICES are the only ones used.
    """
    present = sorted(int(file.name.removeprefix("nvidia")) for file in _device_files(devices))
    chosen = environment.get(VISIBLE)
    gpus = [gpu for gpu in chosen.split(",") if gpu] if chosen is not None else [str(gpu) for gpu in present]
    if not gpus:
        return {}
    shared = {SHARED: "1"} if count > len(gpus) else {}
    return {VISIBLE: gpus[index % len(gpus)], **shared}


def has_nvidia_devices(devices: Path = Path("/dev")) -> bool:
    """Whether GPUs are there under their own driver: not in WSL, where host and GPU must not touch memory at once."""
    return bool(_device_files(devices))


def _device_files(devices: Path) -> list[Path]:
    return list(devices.glob("nvidia[0-9]*"))


def is_gpu_shared(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether another worker has this one's GPU too."""
    return SHARED in environment
