"""Regenerates mlxctl/rpc/ from protos/: `python protos/generate.py`; with --check, fails if what is there differs."""

from __future__ import annotations

import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
RPC = PROTOS.parent / "mlxctl" / "rpc"


def generate(target: Path) -> None:
    """Write shard_pb2.py and shard_pb2.pyi into `target`. Raises SystemExit if protoc refuses the file."""
    source = PROTOS / "mlxctl" / "v1"
    arguments = ["protoc", f"--proto_path={source}", f"--python_out={target}", f"--pyi_out={target}", "shard.proto"]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def main() -> None:
    if "--check" not in sys.argv:
        generate(RPC)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        names = [path.name for path in Path(folder).iterdir()]
        _, mismatch, errors = filecmp.cmpfiles(folder, RPC, names, shallow=False)
    if mismatch or errors:
        raise SystemExit(f"mlxctl/rpc is stale: {', '.join(mismatch + errors)}; run python protos/generate.py")


if __name__ == "__main__":
    main()
