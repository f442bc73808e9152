"""Every error that a user can meet: what is wrong, where, what to do next. Raised anywhere, printed in one place.

MlxctlError                      exit  HTTP
├── UsageError                      2   400   a flag or argument makes no sense
│   └── ProfileError                2   400   the profile: one Problem per mistake
├── CheckpointError                 1   500   a model on disk or hub is missing, broken or unsupported
│   ├── IllegalCut                  1   500   the model cannot be split there
│   └── HubUnreachable              1   500   the hub does not answer
├── DoesNotFit                      1   500   no placement holds weights + KV cache + headroom
├── LaunchError                     1   500   a node could not be brought up
│   ├── PortTaken                   1   500
│   ├── StoreFull                   1   500
│   └── ClusterBusy                 1   409   another process is bringing this cluster up or down
├── NotRunning                      3   503   no such cluster, or its coordinator is gone
├── AuthenticationError             4   401   credentials, host key, certificate
│   └── HostKeyRefused              4   401   an SSH host that is not known, or not the one it was
├── Degraded                        5   503   running, but a stage is lost
│   └── StageLost                   5   503   a worker died, hung or was cut off
├── TimedOut                      124   504
├── Interrupted                   130   499
├── WireError                       1   500   what came over the wire is not a frame of ours
│   ├── CorruptFrame, FrameTooLarge, ForeignFrame
├── CommError                       1   500   a communicator's call that cannot be honoured
│   ├── InvalidRank, ValueMismatch, RankLost
└── RequestError                    1   400   an API request that cannot be honoured
    ├── ContextLengthExceeded       1   400
    ├── ModelNotFound               1   404
    └── Overloaded                  1   429   the queue is full: Retry-After
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class MlxctlError(Exception):
    """Base of all errors of ours: `message` (one line), optional `hint` (what to do next), `node`, `stage`."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    error_type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None  # the API's `code`

    def __init__(
        self, message: str, *, hint: str | None = None, node: str | None = None, stage: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.node = node
        self.stage = stage
        self.log_lines: tuple[str, ...] = ()  # the last ones of the node that failed

    @property
    def line(self) -> str:
        """Where and what in one line, as the command line prints it."""
        place = [f"node {self.node}" if self.node else "", f"stage {self.stage}" if self.stage is not None else ""]
        prefix = ", ".join(part for part in place if part)
        return f"{prefix}: {self.message}" if prefix else self.message

    def __str__(self) -> str:
        return f"{self.line} ({self.hint})" if self.hint else self.line


class UsageError(MlxctlError):
    """A flag, argument or combination that makes no sense."""

    exit_code = 2
    http_status = 400
    error_type = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a profile. `line` counts from 1; `field` is a dotted path such as `nodes[1].memory`."""

    file: str
    line: int | None
    field: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        field = f" {self.field}:" if self.field else ""
        suggestion = f" ({self.suggestion})" if self.suggestion else ""
        return f"{place}:{field} {self.message}{suggestion}"


class ProfileError(UsageError):
    """All mistakes of one profile at once, one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class CheckpointError(MlxctlError):
    """A model on disk or hub is missing, broken or unsupported."""


class IllegalCut(CheckpointError):
    """The model cannot be split where asked."""


class HubUnreachable(CheckpointError):
    """The hub does not answer."""


class DoesNotFit(MlxctlError):
    """No placement holds weights, KV cache and headroom."""


class LaunchError(MlxctlError):
    """A node could not be brought up."""


class PortTaken(LaunchError):
    """Another process listens where one of ours should."""


class StoreFull(LaunchError):
    """A node's disk has no room for the weights that it needs."""


class ClusterBusy(LaunchError):
    """Another process is bringing this cluster up or down."""

    http_status = 409


class NotRunning(MlxctlError):
    """There is no such cluster, or its coordinator is gone."""

    exit_code = 3
    http_status = 503


class AuthenticationError(MlxctlError):
    """Credentials, host key or certificate refused."""

    exit_code = 4
    http_status = 401
    error_type = "authentication_error"
    default_code = "invalid_api_key"


class HostKeyRefused(AuthenticationError):
    """An SSH host that is not known, or not the one it was."""


class Degraded(MlxctlError):
    """The cluster runs, but cannot serve."""

    exit_code = 5
    http_status = 503
    default_code = "degraded"


class StageLost(Degraded):
    """A worker died, hung or was cut off."""

    default_code = "stage_lost"


class TimedOut(MlxctlError):
    """A deadline passed."""

    exit_code = 124
    http_status = 504
    default_code = "timeout"


class Interrupted(MlxctlError):
    """The user pressed Ctrl-C."""

    exit_code = 130
    http_status = 499


class WireError(MlxctlError):
    """What came over the wire is not a frame of ours."""


class CorruptFrame(WireError):
    """Bad magic, version, checksum, offset or header."""


class FrameTooLarge(WireError):
    """A frame or part beyond its cap."""


class ForeignFrame(WireError):
    """A frame of another deployment or epoch."""


class CommError(MlxctlError):
    """A call of a communicator that cannot be honoured."""


class InvalidRank(CommError):
    """No such rank in the group, or this one where another is meant."""


class ValueMismatch(CommError):
    """The ranks brought values that do not fit together, or called different operations."""


class RankLost(CommError):
    """Another rank died, was cut off or has left."""


class RequestError(MlxctlError):
    """An API request that cannot be honoured. `param` names the field, `code` is OpenAI's error code."""

    http_status = 400
    error_type = "invalid_request_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.code = code or self.default_code


class ContextLengthExceeded(RequestError):
    """Prompt plus answer do not fit the context."""

    default_code = "context_length_exceeded"


class ModelNotFound(RequestError):
    """No such model is served here."""

    http_status = 404
    default_code = "model_not_found"


class Overloaded(RequestError):
    """The queue is full. `retry_after_s` goes into the Retry-After header."""

    http_status = 429
    error_type = "rate_limit_error"
    default_code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
