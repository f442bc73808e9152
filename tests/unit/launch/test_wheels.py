"""The wheel that nodes get holds all that runs, and is another one exactly when a file is."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mlxctl
from mlxctl.launch.wheels import FILE_NAME, Package, own_package

pytestmark = pytest.mark.unit

ROOT = Path(mlxctl.__file__).parent


def test_the_wheel_holds_code_tables_profiles_pins_and_the_built_in_model() -> None:
    names = set(zipfile.ZipFile(io.BytesIO(own_package().wheel())).namelist())
    assert {
        "mlxctl/worker/main.py",
        "mlxctl/rpc/shard_pb2.py",
        "mlxctl/profiles/4xm4.yaml",
        "mlxctl/hardware/macs.yaml",
        "mlxctl/sharding/architectures.yaml",
        "mlxctl/canary/model/model.safetensors",
        "mlxctl/constraints.txt",
        "mlxctl/launch/provision/look.sh",
        "mlxctl/py.typed",
    } <= names
    assert not [name for name in names if "training" in name or "__pycache__" in name]


def test_every_module_is_in_the_wheel() -> None:
    modules = {f"mlxctl/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*.py")}
    missing = modules - own_package().files.keys()
    assert all("canary/training" in name for name in missing)


def test_the_wheel_is_one_that_pip_installs(tmp_path: Path) -> None:
    wheel = tmp_path / FILE_NAME
    wheel.write_bytes(own_package().wheel())
    options = ("--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "-q")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(tmp_path / "there"), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "mlxctl" / "__init__.py").is_file()


def test_equal_files_make_equal_wheels_and_a_changed_one_another_hash() -> None:
    package = Package({"mlxctl/a.py": b"1", "mlxctl/b.py": b"2"})
    same = Package({"mlxctl/b.py": b"2", "mlxctl/a.py": b"1"})
    assert (package.hash, package.wheel()) == (same.hash, same.wheel())
    assert Package({**package.files, "mlxctl/b.py": b"3"}).hash != package.hash
