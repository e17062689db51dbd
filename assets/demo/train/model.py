"""The demo model in PyTorch: a small Qwen3 (GQA, QK norm, NeoX RoPE, SwiGLU, tied embedding).

Parameters have their GGUF names, so that export is a loop. Every row length is a multiple of 256, as K-quants require.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    """The sizes of a model."""

    vocab: int = 2048
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    context: int = 1024
    rope_base: float = 10000.0
    eps: float = 1e-6

    def dict(self):
        return asdict(self)


def rms(x, weight, eps):
    """RMSNorm in float32, regardless of the matrices' type."""
    return F.rms_norm(x.float(), (x.shape[-1],), weight, eps)


def rotate(x, cos, sin):
    """RoPE of x [rows, heads, time, head_dim], NeoX style: value i is paired with i + head_dim / 2."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def attend(q, k, v, mask):
    """Unfused attention: on a CPU, it is faster for rows this short than the fused op, above all backwards."""
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype) @ v


class Block(nn.Module):
    """Pre-norm attention and feed-forward with residual connections."""

    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        matrix = lambda rows, cols: nn.Parameter(torch.randn(rows, cols) * (0.4 / cols**0.5))
        zero = lambda rows, cols: nn.Parameter(torch.zeros(rows, cols))
        ones = lambda n: nn.Parameter(torch.ones(n))
        q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
        self.attn_norm, self.ffn_norm = ones(s.hidden), ones(s.hidden)
        self.attn_q_norm, self.attn_k_norm = ones(s.head_dim), ones(s.head_dim)
        self.attn_q, self.attn_k, self.attn_v = matrix(q, s.hidden), matrix(kv, s.hidden), matrix(kv, s.hidden)
        self.ffn_gate, self.ffn_up = matrix(s.ffn, s.hidden), matrix(s.ffn, s.hidden)
        # Zero output matrices: each block starts as the identity.
        self.attn_output, self.ffn_down = zero(s.hidden, q), zero(s.hidden, s.ffn)

    def forward(self, x, cos, sin, mask, cache=None):
        s, (rows, time, _) = self.s, x.shape
        h = rms(x, self.attn_norm, s.eps)
        split = lambda w, heads: F.linear(h, w).view(rows, time, heads, s.head_dim).transpose(1, 2)
        q = rotate(rms(split(self.attn_q, s.heads), self.attn_q_norm, s.eps), cos, sin)
        k = rotate(rms(split(self.attn_k, s.kv_heads), self.attn_k_norm, s.eps), cos, sin)
        v = split(self.attn_v, s.kv_heads)
        if cache is not None:
            k, v = cache.extend(self, k, v)
        group = s.heads // s.kv_heads
        k, v = (t.repeat_interleave(group, dim=1).to(v.dtype) for t in (k, v))
        y = attend(q.to(v.dtype), k, v, mask)
        x = x + F.linear(y.transpose(1, 2).reshape(rows, time, -1), self.attn_output)
        h = rms(x, self.ffn_norm, s.eps)
        return x + F.linear(F.silu(F.linear(h, self.ffn_gate)) * F.linear(h, self.ffn_up), self.ffn_down)


class Model(nn.Module):
    """Maps tokens to hidden states; `logits` computes the logits of selected rows."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(torch.randn(shape.vocab, shape.hidden) * 0.02)
        self.output_norm = nn.Parameter(torch.ones(shape.hidden))
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        half = torch.arange(shape.head_dim // 2, dtype=torch.float64) * 2 / shape.head_dim
        self.register_buffer("frequencies", (shape.rope_base**-half).float(), persistent=False)

    def forward(self, tokens, positions, mask, cache=None):
        """tokens, positions: [rows, time]; mask: bool [rows, 1, time, seen], true where attention is allowed."""
        angles = positions[:, None, :, None].float() * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        x = F.embedding(tokens, self.token_embd)
        for block in self.blk:
            x = block(x, cos, sin, mask, cache)
        return rms(x, self.output_norm, self.shape.eps)

    def logits(self, hidden):
        """Logits [.., vocab] of hidden states. The embedding is tied to the output matrix."""
        return F.linear(hidden, self.token_embd)


class Cache:
    """The KV cache: keys and values of all positions so far, for every block."""

    def __init__(self):
        self.kept = {}

    def extend(self, block, k, v):
        if block in self.kept:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self.kept[block], (k, v)))
        self.kept[block] = (k, v)
        return k, v

    def keep(self, rows):
        """Drops all rows but these."""
        self.kept = {block: (k[rows], v[rows]) for block, (k, v) in self.kept.items()}


@torch.no_grad()
def generate(model, prompts, end, most=160, device="cpu"):
    """Greedy answers (lists of ids without `end`) to a batch of prompts (lists of ids)."""
    width = max(map(len, prompts))
    pad = torch.tensor([width - len(p) for p in prompts], device=device)
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    slots = torch.arange(width, device=device)
    positions = (slots - pad[:, None]).clamp(min=0)
    seen = slots >= pad[:, None]
    # A padding token attends to itself, so that no softmax is empty.
    mask = (seen[:, None, :] & (slots[:, None] >= slots)) | torch.eye(width, dtype=torch.bool, device=device)
    cache, answers, alive = Cache(), [[] for _ in prompts], torch.arange(len(prompts), device=device)
    hidden = model(tokens, positions, mask[:, None], cache)
    for step in range(most):
        best = model.logits(hidden[:, -1]).argmax(-1)
        for row, token in zip(alive.tolist(), best.tolist()):
            if token != end:
                answers[row].append(token)
        going = best != end
        if step + 1 == most or not going.any():
            break
        alive, best, seen, pad = alive[going], best[going], seen[going], pad[going]
        cache.keep(going)
        seen = torch.cat((seen, torch.ones_like(seen[:, :1])), dim=1)
        positions = (width + step - pad)[:, None]
        hidden = model(best[:, None], positions, seen[:, None, None], cache)
    return answers
