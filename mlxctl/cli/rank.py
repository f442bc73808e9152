"""`mlxctl rank` (hidden): one rank of a communicator, started by `mlxctl bench links`."""

from __future__ import annotations

from typing import Annotated

import typer


def rank(
    name: Annotated[str, typer.Option(help="the name that the certificate must carry")],
    host: Annotated[str, typer.Option(help="the address to listen on")],
) -> None:
    """Be one rank of a communicator; started by `mlxctl bench links`."""
    from mlxctl.comm.rank_process import run

    run(name, host)
