"""Log-probabilities in OpenAI's shape. Pure; used by api.chat and api.stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlxctl.request import TokenLogprob
from mlxctl.tokenizer import Tokenizer


class LogprobWriter:
    """Writes the records of one answer: of every token that `completion_tokens` counts, thinking and calls included."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def as_json(self, records: Sequence[TokenLogprob]) -> dict[str, Any]:
        """OpenAI's logprobs object."""
        return {"content": [self._record(record) for record in records], "refusal": None}

    def _record(self, record: TokenLogprob) -> dict[str, Any]:
        return {
            **self._token(record.token, record.logprob),
            "top_logprobs": [self._token(token, logprob) for token, logprob in record.top],
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        content = self._tokenizer.token_bytes(token)
        # JSON has no infinity; OpenAI writes -9999 for what is all but impossible.
        text, floor = content.decode(errors="replace"), -9999.0
        return {"token": text, "logprob": max(logprob, floor), "bytes": list(content)}
