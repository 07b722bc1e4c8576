"""The loop we measure ourselves against: GPT-2's layout as one writes it by hand in PyTorch, float32, eager.

Prints {"tokens_per_s": ...}: the median over the steps after the warm-up.
"""

import argparse
import json

import torch
import torch.nn.functional as F
from shapes import Shape, add_shape, median_step_s, shape_of
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainGpt(nn.Module):
    """Learned positions, tied head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens, self.positions = (
            nn.Embedding(shape.vocabulary, shape.width),
            nn.Embedding(shape.context, shape.width),
        )
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def main() -> None:
    """Train on random ids and time each step."""
    parser = argparse.ArgumentParser(description="a plain float32 loop")
    add_shape(parser)
    options = parser.parse_args()
    shape = shape_of(options)
    torch.manual_seed(0)
    model = PlainGpt(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        ids = torch.randint(shape.vocabulary, (shape.rows, shape.context + 1))
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    if options.compile:
        model.compile()
    print(json.dumps({"tokens_per_s": shape.tokens / median_step_s(step, options)}))


if __name__ == "__main__":
    main()
