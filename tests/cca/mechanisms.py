"""Transformers whose mechanism is known: three written by hand in weights, and one that learns induction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS, LENGTH, HEADS, SIZE, NOISE = 7, 9, 2, 9, 8
SHARP = 40.0  # of attention: the best key takes everything


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, size: int, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.causal = heads, size, causal
        self.q, self.k, self.v = (nn.Linear(width, heads * size) for _ in range(3))
        self.c_proj = nn.Linear(heads * size, width)

    def pattern(self, x: Tensor) -> Tensor:
        """[batch, heads, tokens, tokens]"""
        q, k = self._heads(self.q(x)), self._heads(self.k(x))
        scores = q @ k.transpose(-1, -2) / self.head_dim**0.5
        if self.causal:
            later = torch.ones_like(scores, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        return scores.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.pattern(x) @ self._heads(self.v(x))
        return self.c_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, width: int, neurons: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, neurons), nn.Linear(neurons, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(torch.relu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, size: int, neurons: int, causal: bool) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(width, heads, size, causal), Mlp(width, neurons)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Embedding(nn.Module):
    def __init__(self, tokens: int, length: int, width: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(tokens, width), nn.Embedding(length, width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))


class Transformer(nn.Module):
    """Without norms, so that weights can be written by hand; its parts lie where GPT-2's do."""

    def __init__(self, width: int, classes: int, *, layers=2, heads=HEADS, size=SIZE, neurons=24, causal=False) -> None:
        super().__init__()
        self.drop = Embedding(max(TOKENS, classes), LENGTH if not causal else 64, width)
        self.h = nn.ModuleList(Block(width, heads, size, neurons, causal) for _ in range(layers))
        self.ln_f = nn.Identity()
        self.lm_head = nn.Linear(width, classes, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.drop(input_ids)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


@dataclass(frozen=True)
class Mechanism:
    """A hand-written transformer.

    Attributes:
        build: makes it; the seed changes only what is not part of the mechanism.
        answer: the right class for token ids [LENGTH], at the last position.
        sites: the components that compute it; everything else is noise.
        first_token: 1 where token 0 is the beginning of every sequence.
    """

    name: str
    build: Callable[[int], Transformer]
    answer: Callable[[list[int]], int]
    sites: tuple[str, ...]
    first_token: int = 0


# Channels of the residual stream.
TOKEN, POSITION = slice(0, TOKENS), slice(TOKENS, TOKENS + LENGTH)
SCRATCH = slice(POSITION.stop, POSITION.stop + LENGTH)
ANSWER = slice(SCRATCH.stop, SCRATCH.stop + LENGTH + 1)
OTHER = slice(ANSWER.stop, ANSWER.stop + NOISE)
WIDTH = OTHER.stop


def blank(seed: int, *, causal: bool) -> Transformer:
    """One-hot tokens and positions, answers read out; every component writes noise that hardly matters."""
    model = Transformer(WIDTH, LENGTH + 1, causal=causal).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.drop.token.weight[:TOKENS, TOKEN] = torch.eye(TOKENS)
        model.drop.position.weight[:LENGTH, POSITION] = torch.eye(LENGTH)
        model.lm_head.weight[:, ANSWER] = 10 * torch.eye(LENGTH + 1)
        for block in model.h:
            for part in (block.attn.v, block.mlp.c_fc):
                part.weight[:, TOKEN] = 0.3 * torch.randn(part.weight.shape[0], TOKENS, generator=generator)
            for part in (block.attn.c_proj, block.mlp.c_proj):
                part.weight[OTHER] = torch.randn(NOISE, part.weight.shape[1], generator=generator)
                part.weight[ANSWER] = 1e-3 * torch.randn(LENGTH + 1, part.weight.shape[1], generator=generator)
    return model


def write_head(attention: Attention, query: Tensor, key: Tensor, value: Tensor, output: Tensor, where: slice) -> None:
    """Write head 0: query, key, value [SIZE, WIDTH], and what it adds to `where`: [channels, SIZE]."""
    attention.q.weight[:SIZE], attention.k.weight[:SIZE], attention.v.weight[:SIZE] = query, key, value
    attention.c_proj.weight[:, :SIZE] = 0
    attention.c_proj.weight[where, :SIZE] = output


def write_mlp(mlp: Mlp, inward: Tensor, bias: Tensor, output: Tensor, where: slice) -> None:
    count = inward.shape[0]
    mlp.c_fc.weight[:count], mlp.c_fc.bias[:count] = inward, bias
    mlp.c_proj.weight[:, :count] = 0
    mlp.c_proj.weight[where, :count] = output


def picks(channels: slice, rows: int = SIZE) -> Tensor:
    """[rows, WIDTH]: row i reads channel i of these."""
    matrix = torch.zeros(rows, WIDTH)
    count = min(rows, channels.stop - channels.start)
    matrix[:count, channels][:, :count] = torch.eye(count)
    return matrix


def write_steps(mlp: Mlp, levels: list[float]) -> None:
    """Answer i gets −100 · |scratch channel 0 − levels[i]|."""
    read = torch.zeros(2 * len(levels), WIDTH)
    read[:, SCRATCH.start] = torch.tensor([1.0, -1.0]).repeat(len(levels))
    bias = torch.tensor([[-level, level] for level in levels]).flatten()
    output = -100 * torch.eye(len(levels)).repeat_interleave(2, dim=1)
    write_mlp(mlp, read, bias, output, slice(ANSWER.start, ANSWER.start + len(levels)))


@torch.no_grad()
def reverse(seed: int) -> Transformer:
    """L0.mlp turns each position into the opposite one, L1.attn fetches the token from there."""
    model = blank(seed, causal=False)
    write_mlp(model.h[0].mlp, picks(POSITION, LENGTH), torch.zeros(LENGTH), torch.eye(LENGTH).flip(0), SCRATCH)
    output = torch.zeros(LENGTH + 1, SIZE)
    output[:TOKENS, :TOKENS] = torch.eye(TOKENS)
    write_head(model.h[1].attn, SHARP * picks(SCRATCH), picks(POSITION), picks(TOKEN), output, ANSWER)
    return model


@torch.no_grad()
def histogram(seed: int) -> Transformer:
    """L0.attn spreads over equal tokens and the first one, which so gets 1/(1 + count); L0.mlp reads the count off."""
    model = blank(seed, causal=False)
    keys = picks(TOKEN)
    keys[:, 0] = 1.0
    values = torch.zeros(SIZE, WIDTH)
    values[0, 0] = 1.0
    output = torch.zeros(LENGTH, SIZE)
    output[0, 0] = 1.0
    write_head(model.h[0].attn, SHARP * picks(TOKEN), keys, values, output, SCRATCH)
    write_steps(model.h[0].mlp, [1 / (1 + count) for count in range(LENGTH + 1)])
    return model


@torch.no_grad()
def fraction(seed: int) -> Transformer:
    """L0.attn averages over the previous tokens whether they are token 3; L1.mlp reads the share off."""
    model = blank(seed, causal=True)
    values = torch.zeros(SIZE, WIDTH)
    values[0, 3] = 1.0
    output = torch.zeros(LENGTH, SIZE)
    output[0, 0] = 1.0
    write_head(model.h[0].attn, torch.zeros(SIZE, WIDTH), torch.zeros(SIZE, WIDTH), values, output, SCRATCH)
    write_steps(model.h[1].mlp, [count / LENGTH for count in range(LENGTH + 1)])
    return model


MECHANISMS = (
    Mechanism("reverse", reverse, lambda ids: ids[0], ("L0.mlp", "L1.attn")),
    Mechanism("histogram", histogram, lambda ids: ids.count(ids[-1]), ("L0.attn", "L0.mlp"), first_token=1),
    Mechanism("fraction", fraction, lambda ids: ids.count(3), ("L0.attn", "L1.mlp")),
)


@torch.no_grad()
def damage(model: Transformer, site: str) -> None:
    """What this component writes goes to the neighbouring channel, and more weakly."""
    if site == "embed":
        model.drop.token.weight[[3, 5]] = model.drop.token.weight[[1, 4]]
        return
    block = model.h[int(site[1])]
    weight = (block.attn if site.endswith("attn") else block.mlp).c_proj.weight
    for channels in (SCRATCH, ANSWER):
        weight[channels] = 0.7 * weight[channels].roll(1, 0)


def sequences(mechanism: Mechanism, count: int, seed: int) -> Tensor:
    """[count, LENGTH]"""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(mechanism.first_token, TOKENS, (count, LENGTH), generator=generator)
    if mechanism.first_token:
        ids[:, 0] = 0
    return ids


# --- induction ------------------------------------------------------------------------------------

LETTERS, PERIODS, TOTAL = 16, (4, 10), 24


def repeated(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences without repeats, each repeated with a period of its own, so that no fixed offset predicts them.

    Returns:
        Token ids [count, TOTAL + 1], and from which position each is predictable [count].
    """
    letters = torch.rand(count, LETTERS, generator=generator).argsort(1)
    period = torch.randint(*PERIODS, (count,), generator=generator)
    place = torch.arange(TOTAL + 1)[None] % period[:, None]
    return letters.gather(1, place), period


def induction(steps: int, seed: int = 0) -> Iterator[tuple[Transformer, float]]:
    """A two-layer model that learns to continue repeated sequences; yields it with its accuracy every 100 steps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(64, LETTERS, heads=2, size=32, neurons=8, causal=True)
    for parameter in model.drop.parameters():
        nn.init.normal_(parameter, std=0.5)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        ids, period = repeated(64, generator)
        logits, wanted = model(ids[:, :-1]), ids[:, 1:]
        known = torch.arange(TOTAL)[None] >= period[:, None]
        loss = functional.cross_entropy(logits[known], wanted[known])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            yield model.eval(), float((logits.argmax(-1) == wanted)[known].float().mean())
