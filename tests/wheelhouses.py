"""A wheelhouse for this machine's own system, as test hosts need it; downloaded once and kept between test runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mlxctl.launch.provision import look, wheelhouse
from mlxctl.launch.provision.pythons import Python

SYSTEM_PYTHON = "/usr/bin/python3"  # what a bare host has


def system_python() -> Python:
    """The Python of this machine's system, which test hosts share."""
    command = [SYSTEM_PYTHON, "-I", "-c", look.FACTS]
    return Python(**json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


@pytest.fixture(scope="session")
def filled_wheelhouse(request: pytest.FixtureRequest) -> Path:
    """A wheelhouse from which test hosts can be provisioned."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("wheelhouse")
    target = system_python().target
    assert target is not None
    wheelhouse.fill(folder, target, print)
    return folder
