"""What a hub's refusal means and how to mend it: HTTP status and headers → an error of ours. Called by client."""

from __future__ import annotations

from mlxctl.errors import AuthenticationError, CheckpointError, HubUnreachable, MlxctlError
from mlxctl.hub.access import HubAccess

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def refusal(access: HubAccess, what: str, status: int, code: str) -> MlxctlError:
    """The error for `what` (`org/name` or `org/name: file`), refused with `status` and the hub's own error `code`."""
    repo = what.partition(":")[0].partition("@")[0]
    page = f"{access.endpoint}/{repo}"
    if code == "GatedRepo":
        message = f"{repo} is gated, and this account has not been let in" if access.token else f"{repo} is gated"
        hint = f"ask for access at {page}" + ("" if access.token else f", then {LOG_IN}")
        return AuthenticationError(message, hint=hint)
    if code == "RevisionNotFound":
        return CheckpointError(f"the hub has no such revision: {what}", hint=f"see {page}/tree/main for those it has")
    if code == "EntryNotFound":
        return CheckpointError(f"the hub has no such file: {what}", hint=f"see {page}/tree/main for those it has")
    if status == 401 and access.token and code != "RepoNotFound":
        return AuthenticationError(f"{access.endpoint} does not accept the token: {what}", hint=LOG_IN)
    if status in (401, 403, 404):
        hint = "check the spelling" + (f"; for a private model {LOG_IN}" if not access.token else "")
        thing = f"model {repo}" if repo == what.partition("@")[0] else what
        return CheckpointError(f"{access.endpoint} has no {thing}, or hides it", hint=hint)
    if status == 429:
        hint = "wait some minutes" + ("" if access.token else f", or {LOG_IN}: known users may ask more often")
        return CheckpointError(f"{access.endpoint} wants fewer requests: {what}", hint=hint)
    return CheckpointError(f"{access.endpoint} answered {status}: {what}", hint="try again later")


def unreachable(access: HubAccess, what: str, reason: str) -> HubUnreachable:
    """The error for a hub that does not answer, or whose answers break off again and again."""
    hint = "check the network and HF_ENDPOINT, or give the folder of a model"
    return HubUnreachable(f"cannot reach {access.endpoint} for {what}: {reason}", hint=hint)
