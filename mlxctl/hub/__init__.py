"""Reading from a model hub over HTTP: small files, byte ranges, one clear line for what fails."""

from mlxctl.hub.access import HubAccess, access_from_environment, cached_snapshot, find_snapshot, is_offline
from mlxctl.hub.client import HubClient

__all__ = ["HubAccess", "HubClient", "access_from_environment", "cached_snapshot", "find_snapshot", "is_offline"]
