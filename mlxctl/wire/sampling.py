"""Sampling parameters and log-probabilities as frame headers carry them. Used by the pipeline and the last stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlxctl.request import Sampling, TokenLogprob
from mlxctl.rpc import shard_pb2


@dataclass(frozen=True, slots=True)
class WantedToken:
    """One row's next token: how to draw it, the tokens before it, and the `recent` ones where penalties need them."""

    sampling: Sampling
    position: int
    recent: tuple[int, ...] = ()


def encode_wanted(wanted: WantedToken) -> shard_pb2.Sampling:
    s = wanted.sampling
    return shard_pb2.Sampling(
        temperature=s.temperature,
        top_k=s.top_k,
        top_p=s.top_p,
        min_p=s.min_p,
        seed=s.seed,
        xtc_probability=s.xtc_probability,
        xtc_threshold=s.xtc_threshold,
        xtc_kept_ids=s.xtc_kept_ids,
        repetition_penalty=s.repetition_penalty,
        presence_penalty=s.presence_penalty,
        frequency_penalty=s.frequency_penalty,
        bias_ids=[token for token, _ in s.logit_bias],
        bias=[amount for _, amount in s.logit_bias],
        top_logprobs=s.top_logprobs,
        position=wanted.position,
        recent=wanted.recent,
    )


def decode_wanted(message: shard_pb2.Sampling) -> WantedToken:
    """`repetition_context` is what `recent` holds: the sender has cut it."""
    sampling = Sampling(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p,
        min_p=message.min_p,
        seed=message.seed,
        xtc_probability=message.xtc_probability,
        xtc_threshold=message.xtc_threshold,
        xtc_kept_ids=tuple(message.xtc_kept_ids),
        repetition_penalty=message.repetition_penalty,
        repetition_context=max(1, len(message.recent)),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(zip(message.bias_ids, message.bias, strict=True)),
        top_logprobs=message.top_logprobs if message.HasField("top_logprobs") else None,
    )
    return WantedToken(sampling, message.position, tuple(message.recent))


def encode_logprobs(records: Sequence[TokenLogprob | None]) -> list[shard_pb2.TokenLogprob]:
    """One message a row; none at all if no row has a record."""
    if not any(records):
        return []
    return [
        shard_pb2.TokenLogprob()
        if record is None
        else shard_pb2.TokenLogprob(
            wanted=True,
            logprob=record.logprob,
            top_ids=[token for token, _ in record.top],
            top_logprobs=[logprob for _, logprob in record.top],
        )
        for record in records
    ]


def decode_logprobs(messages: Iterable[shard_pb2.TokenLogprob], token_ids: Sequence[int]) -> list[TokenLogprob | None]:
    """One record or None a row of `token_ids`."""
    records: list[TokenLogprob | None] = [
        TokenLogprob(token, message.logprob, tuple(zip(message.top_ids, message.top_logprobs, strict=True)))
        if message.wanted
        else None
        for message, token in zip(messages, token_ids, strict=False)
    ]
    return records or [None] * len(token_ids)
