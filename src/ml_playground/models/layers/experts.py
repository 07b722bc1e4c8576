"""Mixture of experts: of E feed-forward layers a router chooses k for each token. No token is left out, however many choose alike.

B rows, T tokens, N = B T, C width, E experts, k of them for each token, M = N k choices.
Source: Shazeer et al. 2017, arXiv 1701.06538; as in Mixtral, Jiang et al. 2024, arXiv 2401.04088.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ml_playground.models.layers.feed_forward import feed_forward_of
from ml_playground.models.layers.precision import product_dtype
from ml_playground.models.settings import Gpt


class Use(NamedTuple):
    """How each row uses the experts of a block, (B,) each."""

    balance: Tensor
    """E times the sum over experts of their share of the choices times their mean probability: 1 where all are used alike."""
    z: Tensor
    """Mean squared log-partition of the router."""
    busiest: Tensor
    """Share of the choices that the most chosen expert has, times E: 1 where all are used alike."""


class Routed(NamedTuple):
    """What a layer with experts gives."""

    result: Tensor
    """(B, T, C)."""
    use: Use


class Choices(NamedTuple):
    """Who works on which token."""

    shares: Tensor
    """(N, k) by which results are multiplied."""
    chosen: Tensor
    """(N, k) numbers of experts."""

    def sizes(self, experts: int) -> list[int]:
        """Choices that fall on each expert; the host waits for the device to know them."""
        return cast(list[int], torch.bincount(self.chosen.flatten(), minlength=experts).tolist())

    def order(self) -> Tensor:
        """(M,) the choices sorted by expert, those of one expert in the order of tokens."""
        return self.chosen.flatten().argsort(stable=True)


def choose(logits: Tensor, used: int) -> Choices:
    """The `used` most probable experts of logits (N, E), their probabilities scaled to add up to one.

    A single expert keeps its probability: scaled it would always be one, and the router would learn nothing of the text.
    Source of that: Fedus et al. 2021 (Switch), arXiv 2101.03961.
    """
    shares, chosen = logits.softmax(-1).topk(used, dim=-1)
    return Choices(shares if used == 1 else shares / shares.sum(-1, keepdim=True), chosen)


class Router(nn.Module):
    """Says which experts suit a token. Its products stay float32: rounded logits would choose others."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) -> logits (N, E)."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        casts = product_dtype(self.weight) != self.weight.dtype
        with torch.autocast(x.device.type, enabled=False) if casts else nullcontext():
            return x.to(wide) @ self.weight.to(wide).T


class ExpertFeedForward(nn.Module):
    """The experts of a block, each with the tokens that chose it: sorted by expert, so that each has one product a matrix."""

    def __init__(self, settings: Gpt) -> None:
        super().__init__()
        self.used = settings.n_expert_used
        self.router = Router(settings.n_embd, settings.n_expert)
        # Matrices of their own, not one stack of three dimensions: optimizers then see what they see everywhere.
        self.experts = nn.ModuleList(feed_forward_of(settings, bias=False) for _ in range(settings.n_expert))

    def forward(self, x: Tensor) -> Routed:
        """(B, T, C) -> (B, T, C), and how the experts were used."""
        flat = x.flatten(0, 1)
        logits = self.router(flat)
        choices = choose(logits, self.used)
        results = (_worked_apart if torch.compiler.is_compiling() else _worked)(self.experts, flat, choices)
        mixed = (results * choices.shares.to(results.dtype).unsqueeze(-1)).sum(1)
        return Routed(mixed.view_as(x), use_of(logits, choices.chosen, rows=x.shape[0]))


def _worked(experts: nn.ModuleList, x: Tensor, choices: Choices) -> Tensor:
    """(N, C) -> (N, k, C): what each of the chosen experts makes of a token."""
    used = choices.chosen.shape[-1]
    order = choices.order()
    back = order.argsort()
    parts = torch.split(_gathered(x, order, back, used), choices.sizes(len(experts)))
    results = torch.cat([expert(part) for expert, part in zip(experts, parts, strict=True)])
    return _gathered(results, back, order, 1).view(len(x), used, -1)


_worked_apart = torch._disable_dynamo(_worked)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
"""torch.compile would make code anew for each way in which tokens fall on experts. `torch.compiler.disable` imports it at once."""


def use_of(logits: Tensor, chosen: Tensor, *, rows: int) -> Use:
    """How each of the rows uses the experts.

    Counted within each row, not over the batch: so that micro-batches may be split in any way with equal gradients.
    Source: DeepSeek-V2, arXiv 2405.04434, section 2.2.2 (balance over a sequence); the router's z-loss is that of ST-MoE, arXiv 2202.08906.

    Args:
        logits: (N, E).
        chosen: (N, k).
        rows: B.
    """
    experts = logits.shape[-1]
    numbers = torch.arange(experts, device=chosen.device)
    shares = (chosen.view(rows, -1, 1) == numbers).to(logits.dtype).mean(1)
    probabilities = logits.softmax(-1).view(rows, -1, experts).mean(1)
    partitions = logits.logsumexp(-1).square().view(rows, -1).mean(1)
    return Use(experts * (shares * probabilities).sum(-1), partitions, experts * shares.amax(-1))


def _gathered(x: Tensor, order: Tensor, back: Tensor, copies: int) -> Tensor:
    """Row order[i] // copies of `x` at place i; `back` undoes `order`, a permutation of all copies of the rows."""
    return cast(Tensor, _Gathered.apply(x, order, back, copies))


class _Gathered(torch.autograd.Function):
    """Gathers on the way back too, where autograd would add row by row, in an order of its own on CUDA."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor, copies: int) -> Tensor:
        """(N, C) -> (N copies, C)."""
        ctx.save_for_backward(back)
        ctx.copies = copies
        return x.index_select(0, order if copies == 1 else order // copies)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradients of a row's copies, added up."""
        (back,) = ctx.saved_tensors
        of_copies = grad.index_select(0, back)
        if ctx.copies > 1:
            of_copies = of_copies.view(-1, ctx.copies, grad.shape[1]).sum(1)
        return of_copies, None, None, None
