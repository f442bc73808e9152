"""A small communicator over the cluster's wire: send, recv, broadcast, all_reduce, all_gather, barrier. Public."""

from mlxctl.comm.communicator import Communicator
from mlxctl.comm.mesh import Endpoint
from mlxctl.wire.service import rank_name

__all__ = ["Communicator", "Endpoint", "rank_name"]
