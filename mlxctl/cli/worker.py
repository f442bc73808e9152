"""`mlxctl worker` (hidden): one stage's process, started by a coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def worker(
    name: Annotated[str, typer.Option(help="the name that the certificate must carry")],
    host: Annotated[str, typer.Option(help="the address to listen on")],
    port: Annotated[int, typer.Option(help="the first port to try; 0: any")],
    port_tries: Annotated[int, typer.Option(help="how many ports to try from there")] = 1,
    store: Annotated[Path | None, typer.Option(help="folder of weights that are sent here")] = None,
    store_only: Annotated[bool, typer.Option("--store-only", help="load from the store, even what lies here")] = False,
) -> None:
    """Run the layers of one stage; started by a coordinator."""
    from mlxctl.paths import store_dir
    from mlxctl.worker.main import run

    run(name, host, port, port_tries, store or store_dir(), store_only)
