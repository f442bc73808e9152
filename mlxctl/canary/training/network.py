"""The canary in PyTorch, over documents laid end to end; its parameters are named as in Qwen3. Called by train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_EPSILON = 1e-6
_INITIAL_SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes in a model's config.json."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    mlp: int
    vocabulary: int
    context: int
    rope_base: float

    @classmethod
    def parse(cls, config: dict[str, Any]) -> Shape:
        """The shape that a config.json describes."""
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head=config["head_dim"],
            mlp=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            rope_base=config["rope_theta"],
        )


def _attend(queries: Any, keys: Any, values: Any, starts: Any, context: int) -> Any:
    """Causal attention within each document; [T, heads, head] each, `starts` as in Batch."""
    if queries.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        return varlen_attn(queries, keys, values, starts, starts, context, context, window_size=(-1, 0))
    length = queries.shape[0]
    document = torch.searchsorted(starts[1:], torch.arange(length, dtype=starts.dtype), right=True)
    mask = (document[:, None] == document[None]) & torch.ones(length, length, dtype=torch.bool).tril()
    by_head = (part.transpose(0, 1)[None] for part in (queries, keys, values))
    return functional.scaled_dot_product_attention(*by_head, attn_mask=mask)[0].transpose(0, 1)


def _rotate(heads: Any, cosine: Any, sine: Any) -> Any:
    first, second = heads.chunk(2, -1)
    return (heads * cosine + torch.cat((-second, first), -1) * sine).to(heads.dtype)


class Attention(nn.Module):  # type: ignore[misc]
    """Grouped-query attention with normalised queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head, shape.hidden, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(shape.head, _EPSILON), nn.RMSNorm(shape.head, _EPSILON)

    def forward(self, x: Any, cosine: Any, sine: Any, starts: Any) -> Any:
        """[T, hidden] to [T, hidden]."""
        shape, length = self.shape, x.shape[0]
        queries = _rotate(self.q_norm(self.q_proj(x).view(length, shape.heads, shape.head)), cosine, sine)
        keys = _rotate(self.k_norm(self.k_proj(x).view(length, shape.kv_heads, shape.head)), cosine, sine)
        values = self.v_proj(x).view(length, shape.kv_heads, shape.head)
        group = shape.heads // shape.kv_heads
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
        attended = _attend(queries, keys, values, starts, shape.context)
        return self.o_proj(attended.reshape(length, shape.heads * shape.head))


class Mlp(nn.Module):  # type: ignore[misc]
    """The gated feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Any) -> Any:
        """[T, hidden] to [T, hidden]."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):  # type: ignore[misc]
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(shape), Mlp(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden, _EPSILON)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, _EPSILON)

    def forward(self, x: Any, cosine: Any, sine: Any, starts: Any) -> Any:
        """[T, hidden] to [T, hidden]."""
        normed = self.input_layernorm(x)
        x = x + self.self_attn(normed.bfloat16() if x.is_cuda else normed, cosine, sine, starts)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):  # type: ignore[misc]
    """Everything but the head, which is the embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, _EPSILON)
        frequencies = shape.rope_base ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        angles = torch.outer(torch.arange(shape.context).float(), frequencies).repeat(1, 2)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self._initialise(shape)

    def _initialise(self, shape: Shape) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                ends_a_branch = "o_proj" in name or "down_proj" in name
                spread = _INITIAL_SPREAD / (math.sqrt(2 * shape.layers) if ends_a_branch else 1)
                nn.init.normal_(parameter, std=spread)

    def forward(self, tokens: Any, positions: Any, starts: Any) -> Any:
        """int64 [T] twice and int32 [documents + 1] to [T, hidden]."""
        cosine, sine = self.cosine[positions][:, None], self.sine[positions][:, None]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cosine, sine, starts)
        return self.norm(x)
