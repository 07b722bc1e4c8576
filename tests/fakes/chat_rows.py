"""Chats as ids and targets, the batches that ours are, and the loss that the transformers library gives of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.protocols import Layout, NextTokenModel, states_of

PADDING = 3
"""Any id; nothing may depend on it."""


class Chat(NamedTuple):
    """Tokens of one conversation."""

    ids: Tensor
    """(t,) int64."""
    targets: Tensor
    """(t,) bool: what the assistant says."""

    @property
    def labels(self) -> Tensor:
        """(t,): the id that comes next where it is a target, else NO_TARGET."""
        following = torch.where(self.targets, self.ids, NO_TARGET)[1:]
        return functional.pad(following, (0, 1), value=NO_TARGET)


def some_chats(vocab: int, lengths: Sequence[int] = (11, 4, 7, 12)) -> list[Chat]:
    """Random ids; prompts of a third, a second answer in what is long enough."""
    generator = torch.Generator().manual_seed(11)
    chats: list[Chat] = []
    for size in lengths:
        ids = torch.randint(vocab, (size,), generator=generator)
        targets = torch.arange(size) >= max(1, size // 3)
        targets[size // 2 + 1 : size // 2 + 3] = False
        chats.append(Chat(ids, targets))
    return chats


def padded(chats: Sequence[Chat]) -> TokenBatch:
    """A row for each, padded at the right to the longest."""
    length = max(len(chat.ids) for chat in chats)
    return TokenBatch(
        torch.stack([functional.pad(chat.ids, (0, length - len(chat.ids)), value=PADDING) for chat in chats]),
        torch.stack([functional.pad(chat.labels, (0, length - len(chat.ids)), value=NO_TARGET) for chat in chats]),
    )


def packed(rows: Sequence[Sequence[Chat]]) -> TokenBatch:
    """Several chats a row, padded at the right with a document of its own."""
    length = max(sum(len(chat.ids) for chat in row) for row in rows)
    columns: list[list[Tensor]] = [[], [], [], []]
    for row in rows:
        missing = length - sum(len(chat.ids) for chat in row)
        filler = [Chat(torch.full((missing,), PADDING), torch.zeros(missing, dtype=torch.bool))] if missing else []
        whole = [*row, *filler]
        columns[0].append(torch.cat([chat.ids for chat in whole]))
        columns[1].append(torch.cat([chat.labels for chat in whole]))
        columns[2].append(torch.cat([torch.arange(len(chat.ids)) for chat in whole]))
        columns[3].append(torch.cat([torch.full((len(chat.ids),), number) for number, chat in enumerate(whole)]))
    ids, labels, positions, documents = map(torch.stack, columns)
    return TokenBatch(ids, labels, positions=positions, documents=documents)


def our_loss(model: NextTokenModel, batch: TokenBatch) -> Tensor:
    """() nats of a batch, summed over its targets, written out."""
    layout = None
    if batch.positions is not None and batch.documents is not None:
        layout = Layout(batch.positions, batch.documents)
    logits = model.head(states_of(model, batch.ids, layout).hidden)
    return functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="sum")


def librarys_loss(network: Any, chats: Sequence[Chat]) -> Tensor:
    """() nats: each chat alone through the library's own class, which shifts labels and takes the mean itself."""
    total = torch.zeros(())
    for chat in chats:
        labels = torch.where(chat.targets, chat.ids, NO_TARGET)
        total = total + network(chat.ids[None], labels=labels[None]).loss * (labels[1:] != NO_TARGET).sum()
    return total


def librarys_padded_loss(network: Any, chats: Sequence[Chat]) -> Tensor:
    """() nats: the same as one padded batch with the attention mask that the library wants."""
    length = max(len(chat.ids) for chat in chats)
    pads = [(0, length - len(chat.ids)) for chat in chats]
    named = list(zip(chats, pads, strict=True))
    ids = torch.stack([functional.pad(chat.ids, pad, value=PADDING) for chat, pad in named])
    real = torch.stack([functional.pad(torch.ones_like(chat.ids), pad) for chat, pad in named])
    labels = [
        functional.pad(torch.where(chat.targets, chat.ids, NO_TARGET), pad, value=NO_TARGET) for chat, pad in named
    ]
    told = torch.stack(labels)
    return network(ids, attention_mask=real, labels=told).loss * (told[:, 1:] != NO_TARGET).sum()


def gradients_of(loss: Tensor, module: nn.Module) -> Mapping[str, Tensor]:
    """Of every parameter that is trained; divided by their largest number, so that one tolerance fits all of them."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: one.grad for name, one in module.named_parameters() if one.requires_grad and one.grad is not None}
    largest = max(float(one.abs().max()) for one in found.values())
    return {name: one / largest for name, one in found.items()}
