"""One NVIDIA GPU for each worker of this machine, where it has several. Called by the spawn phase."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpu_environment(
    index: int, environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> dict[str, str]:
    """What makes the worker of stage `index` see one GPU alone: they are dealt out in turn. Empty without GPUs.

    GPUs that the user has chosen by CUDA_VISIBLE_DEVICES are the only ones used.
    """
    present = sorted(int(file.name.removeprefix("nvidia")) for file in devices.glob("nvidia[0-9]*"))
    chosen = environment.get(VISIBLE)
    gpus = [gpu for gpu in chosen.split(",") if gpu] if chosen is not None else [str(gpu) for gpu in present]
    return {VISIBLE: gpus[index % len(gpus)]} if gpus else {}
