"""Request fields that are understood and checked but not honoured by the engine yet. Called by api.chat."""

from __future__ import annotations

from typing import Any, Final

from mlxctl.api.schema import ChatRequest
from mlxctl.errors import RequestError

# The one place: what the engine honours is taken out of this set.
NOT_YET: frozenset[str] = frozenset(
    {
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "xtc_probability",
        "logit_bias",
        "logprobs",
        "timeout",
        "priority",
    }
)
# Values that ask for what happens anyway.
_NEUTRAL: Final[dict[str, Any]] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "xtc_probability": 0,
    "logit_bias": {},
    "logprobs": False,
    "priority": "interactive",
}


def check_honoured(chat: ChatRequest) -> None:
    """Raises RequestError for the first field that asks for something which would not happen."""
    for name in sorted(NOT_YET):
        value = getattr(chat, name)
        if value is not None and value != _NEUTRAL.get(name):
            raise RequestError(
                f"{name}: this field is not supported yet, so it is refused rather than ignored",
                param=name,
                code="unsupported_parameter",
            )
