"""A small Llama in plain PyTorch, and the initialisation that makes copying learnable in minutes.

RMSNorm, interleaved RoPE (the order in which GGUF's `llama` stores it), SwiGLU, tied embeddings.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-5


@dataclass
class Shape:
    """`theta` is large so that many of RoPE's pairs turn slowly: those compare far-off contents."""

    vocabulary: int
    width: int = 256
    layers: int = 4
    heads: int = 4
    feed_forward: int = 512
    theta: float = 1e6
    context: int = 2048

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def as_dict(self) -> dict:
        return asdict(self)


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        width, inner = shape.width, shape.feed_forward

        def matrix(rows: int, columns: int, gain: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns) * gain / columns**0.5)

        self.attention_norm = nn.Parameter(torch.ones(width))
        self.query = matrix(width, width)
        self.key = matrix(width, width)
        self.value = matrix(width, width)
        self.output = matrix(width, width, 0.02)
        self.feed_norm = nn.Parameter(torch.ones(width))
        self.gate = matrix(inner, width)
        self.up = matrix(inner, width)
        self.down = matrix(width, inner, 0.02)


class Llama(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.width) * 0.1)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        angles = torch.outer(torch.arange(shape.context).float(), self.frequencies())
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.start_near_copying()

    def frequencies(self) -> Tensor:
        """The angle per position of each RoPE pair, fastest first."""
        width = self.shape.head_width
        return self.shape.theta ** (-torch.arange(0, width, 2).float() / width)

    @torch.no_grad()
    def start_near_copying(self) -> None:
        """Sets weights with which copying is a short step away; all are trained afterwards.

        Layer 0 gets heads that look 1, 2 and 3 tokens back and write what they see into a subspace
        each. Layers 1 and 2 get heads that find the earlier place before which the same tokens
        stood (induction heads). What a head of the layers above 0 reads, it writes on unchanged,
        only smaller.
        """
        shape = self.shape
        width, head = shape.width, shape.head_width
        per_offset = 2 if shape.heads >= 8 else 1  # heads for each offset
        span = per_offset * head

        def orthogonal(rows: int, columns: int) -> Tensor:
            return torch.linalg.qr(torch.randn(columns, rows))[0].T

        self.embedding[:, 0] = 0.4  # a constant that position-only heads can build on
        token = orthogonal(span, width)
        seen = orthogonal(3 * span, width).view(3, span, width)
        self._look_back(token, seen, per_offset)

        # Only slowly turning pairs compare contents; they are the last ones of a head.
        slow = head * 5 // 8
        first_slow = head - slow
        sizes = (slow // 2, slow - slow // 2 - slow // 5, slow // 5)
        for number, block in enumerate(self.blocks):
            if number == 0:
                continue
            mix = orthogonal(width, width)
            block.value.copy_(mix)
            block.output.copy_(0.03 * mix.T)
            if number > 2:
                continue
            for index in range(shape.heads // 2):
                at = index * head + first_slow
                views = [torch.randn(size, span) / span**0.5 * 1.5 for size in sizes]
                asked = torch.cat([views[0] @ token, views[1] @ seen[0], views[2] @ seen[1]])
                held = torch.cat([views[0] @ seen[0], views[1] @ seen[1], views[2] @ seen[2]])
                block.query[at : at + slow] = asked
                block.key[at : at + slow] = held

    def _look_back(self, token: Tensor, seen: Tensor, per_offset: int) -> None:
        """Layer 0: heads whose score peaks 1, 2 and 3 positions back."""
        head, frequencies = self.shape.head_width, self.frequencies()
        fast = head // 4
        even = 2 * torch.arange(fast)
        block = self.blocks[0]
        for offset in range(3):
            for index in range(per_offset * offset, per_offset * (offset + 1)):
                at = index * head
                block.query[at : at + head] *= 0.3
                block.key[at : at + head] *= 0.3
                turn = (offset + 1) * frequencies[:fast]
                block.query[at + even, 0] = 1.5 * torch.cos(turn)
                block.query[at + even + 1, 0] = -1.5 * torch.sin(turn)
                block.key[at + even, 0] = 1.5
                block.key[at + even + 1, 0] = 0.0
            at, span = per_offset * offset * head, per_offset * head
            block.value[at : at + span] = token
            block.output[:, at : at + span] = 0.12 * seen[offset].T

    def forward(self, ids: Tensor) -> Tensor:
        """Hidden states behind the last norm; `logits` turns the wanted ones into scores."""
        batch, length = ids.shape
        shape = self.shape
        heads, head = shape.heads, shape.head_width
        cos, sin = self.cos[:length, None], self.sin[:length, None]

        def split(x: Tensor) -> Tensor:
            return x.view(batch, length, heads, head).transpose(1, 2)

        def rotate(x: Tensor) -> Tensor:
            pairs = x.view(batch, length, heads, head // 2, 2)
            a, b = pairs[..., 0], pairs[..., 1]
            turned = torch.stack((a * cos - b * sin, a * sin + b * cos), -1)
            return split(turned.view(batch, length, heads * head))

        mask = torch.full((length, length), -1e4).triu(1)
        x = self.embedding[ids]
        for block in self.blocks:
            y = F.rms_norm(x, (shape.width,), block.attention_norm, NORM_EPSILON)
            query, key, value = (F.linear(y, w) for w in (block.query, block.key, block.value))
            # By hand: on a CPU the fused kernel's backward pass is slower.
            q, k = rotate(query) * head**-0.5, rotate(key)
            scores = q.to(value.dtype) @ k.to(value.dtype).transpose(-1, -2)
            weights = (scores + mask.to(scores.dtype)).softmax(-1).to(value.dtype)
            mixed = (weights @ split(value)).transpose(1, 2).reshape(batch, length, shape.width)
            x = x + F.linear(mixed, block.output)
            y = F.rms_norm(x, (shape.width,), block.feed_norm, NORM_EPSILON)
            x = x + F.linear(F.silu(F.linear(y, block.gate)) * F.linear(y, block.up), block.down)
        return F.rms_norm(x, (shape.width,), self.norm, NORM_EPSILON)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding)


def load_checkpoint(path: str) -> Llama:
    saved = torch.load(path, weights_only=True)
    model = Llama(Shape(**saved["shape"]))
    model.load_state_dict(saved["weights"])
    return model.eval()
