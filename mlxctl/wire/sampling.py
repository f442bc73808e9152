"""Sampling parameters and log-probabilities as frame headers carry them. Used by the pipeline and the last stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.message import DecodeError

from mlxctl.errors import CorruptFrame
from mlxctl.request import Sampling, TokenLogprob
from mlxctl.rpc import shard_pb2


@dataclass(frozen=True, slots=True)
class Wanted:
    """The next token of each row of a frame. Without `samplings` each row takes its likeliest one.

    `positions` counts the tokens before; `recent` holds the last of these for each row if any row has penalties.
    """

    samplings: tuple[Sampling, ...]
    positions: tuple[int, ...]
    recent: tuple[tuple[int, ...], ...] = ()


def write_wanted(wanted: Wanted, header: shard_pb2.FrameHeader) -> None:
    """Put `wanted` into `header`."""
    header.positions.extend(wanted.positions)
    header.settings = _encoded(wanted.samplings)
    header.recent.extend(shard_pb2.Recent(tokens=tokens) for tokens in wanted.recent)


def read_wanted(header: shard_pb2.FrameHeader) -> Wanted | None:
    """What `write_wanted` put there. Raises CorruptFrame for what it would not have put."""
    if not header.positions:
        return None
    recent = tuple(tuple(entry.tokens) for entry in header.recent)
    return Wanted(decode_settings(header.settings), tuple(header.positions), recent)


@lru_cache(maxsize=256)
def decode_settings(settings: bytes) -> tuple[Sampling, ...]:
    """One Sampling a row; none where all rows take their likeliest token. Raises CorruptFrame."""
    try:
        return tuple(_decoded(row) for row in shard_pb2.Settings.FromString(settings).rows)
    except (DecodeError, ValueError) as error:
        raise CorruptFrame("settings of draws that cannot be decoded") from error


@lru_cache(maxsize=256)
def _encoded(samplings: tuple[Sampling, ...]) -> bytes:
    return shard_pb2.Settings(rows=[_message(sampling) for sampling in samplings]).SerializeToString()


def _message(s: Sampling) -> shard_pb2.Sampling:
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
    )


def _decoded(message: shard_pb2.Sampling) -> Sampling:
    """All but `repetition_context`: the sender cuts the recent tokens to it."""
    return Sampling(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p,
        min_p=message.min_p,
        seed=message.seed,
        xtc_probability=message.xtc_probability,
        xtc_threshold=message.xtc_threshold,
        xtc_kept_ids=tuple(message.xtc_kept_ids),
        repetition_penalty=message.repetition_penalty,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(zip(message.bias_ids, message.bias, strict=True)),
        top_logprobs=message.top_logprobs if message.HasField("top_logprobs") else None,
    )


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
