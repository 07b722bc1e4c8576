"""The same shape as GPT2LMHeadModel of transformers: bfloat16 autocast, fused AdamW, as its users write the loop.

Prints {"tokens_per_s": ...}: the median over the steps after the warm-up.
"""

import argparse
import json

import torch
from shapes import add_shape, median_step_s, shape_of
from transformers import GPT2Config, GPT2LMHeadModel


def main() -> None:
    """Train on random ids and time each step."""
    parser = argparse.ArgumentParser(description="transformers")
    add_shape(parser)
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    options = parser.parse_args()
    shape = shape_of(options)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=options.attention,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(model) if options.compile else model

    def step() -> None:
        ids = torch.randint(shape.vocabulary, (shape.rows, shape.context))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = forward(ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    print(json.dumps({"tokens_per_s": shape.tokens / median_step_s(step, options)}))


if __name__ == "__main__":
    main()
