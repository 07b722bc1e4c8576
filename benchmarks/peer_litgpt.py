"""The same shape with litgpt: its model, Fabric, precision and loss as `litgpt pretrain` puts them together.

Runs under the interpreter that has litgpt (`--litgpt PYTHON` of train_speed.py); needs nothing of ours.
Prints {"tokens_per_s": ...}: the median over the steps after the warm-up.
"""

import argparse
import json

import lightning
import torch
from litgpt.model import GPT, Config
from litgpt.utils import chunked_cross_entropy, get_default_supported_precision, instantiate_torch_optimizer
from shapes import add_shape, median_step_s, shape_of


def main() -> None:
    """Train on random ids and time each step; the loop is that of litgpt/pretrain.py."""
    parser = argparse.ArgumentParser(description="litgpt")
    add_shape(parser)
    options = parser.parse_args()
    shape = shape_of(options)
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=get_default_supported_precision(training=True))
    fabric.seed_everything(0)
    config = Config(
        block_size=shape.context,
        vocab_size=shape.vocabulary,
        padded_vocab_size=shape.vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
    )
    model = GPT(config)
    model.transformer.wte.weight = model.lm_head.weight
    if options.compile:
        model = torch.compile(model)
    model = fabric.setup(model)
    optimizer = fabric.setup_optimizers(instantiate_torch_optimizer("AdamW", model.parameters(), fused=True))

    def step() -> None:
        ids = torch.randint(shape.vocabulary, (shape.rows, shape.context + 1))
        loss = chunked_cross_entropy(model(ids[:, :-1].contiguous()), ids[:, 1:].contiguous())
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    print(json.dumps({"tokens_per_s": shape.tokens / median_step_s(step, options)}))


if __name__ == "__main__":
    main()
