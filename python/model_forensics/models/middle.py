"""Running a decoder from its middle: from any half on, for some tokens only, beside a run that was kept.

Attention of later tokens reads keys and values of earlier ones. Where nothing before token `start` was changed, these
are the kept run's, and a stand-in for transformers' `Cache` gives them to the model's own attention module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from model_forensics.models.decoder import Decoder
from model_forensics.models.folding import best_fold, causal_mask, fold_mask, tile
from model_forensics.models.model import Model
from model_forensics.models.values import input_tensor, output_tensor, with_input_tensor

_CACHES = ("past_key_values", "past_key_value", "layer_past")
_TOKEN_AXIS = {"position_ids": 1, "cache_position": 0, "position_embeddings": 1}
Plain = bool | int | float | str | None


class CannotReplay(Exception):
    """This model's halves cannot be run alone; the text says why. The caller runs whole forwards instead."""


class Past:
    """Keys and values of earlier tokens, as attention modules ask a cache for them.

    Attributes:
        seen: what the attention computed itself, (keys, values), each [rows, heads, tokens, features].
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None, *, behind: Any = None) -> None:
        """
        Args:
            behind: a cache of the model's own, which is asked in turn, so that a run that is watched has the same bits.
        """
        self._earlier = None if keys is None or values is None else (keys, values)
        self._behind = behind
        self.seen: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.seen = keys, values
        if self._behind is not None:
            self.seen = self._behind.update(keys, values, *args, **kwargs)
            return self.seen
        if self._earlier is None:
            return keys, values
        return _joined(self._earlier[0], keys), _joined(self._earlier[1], values)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self._earlier is None else int(self._earlier[0].shape[2])


def _joined(earlier: Tensor, own: Tensor) -> Tensor:
    """[R, heads, tokens, features] of [1 or R, …] earlier and [R, …] own tokens; `cat` is slow where strides differ."""
    start = earlier.shape[2]
    joined = own.new_empty(own.shape[0], own.shape[1], start + own.shape[2], own.shape[3])
    joined[:, :, :start] = earlier
    joined[:, :, start:] = own
    return joined


@dataclass
class _Invocation:
    """How a block called its attention: all arguments, with an empty tensor in the place of the hidden states."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


@dataclass
class Selection:
    """Rows of the kept run that run again, at tokens start ≤ t < stop.

    Attributes:
        rows: [R] int64, the kept run's row of each.
    """

    rows: Tensor
    start: int
    stop: int
    _kept: dict[tuple[object, ...], Any] = field(default_factory=dict)

    @cached_property
    def single(self) -> bool:
        """Whether all are the same row: then what belongs to rows is broadcast instead of copied."""
        return bool((self.rows == self.rows[0]).all())

    def fold(self, hidden: Tensor) -> int:
        """How many of these rows are run as one: several where all share the tokens before `start`.

        In float32 only. 16-bit attention rounds what it sums over its blocks of keys: folded rows would be one or two
        units away from plain ones, where the plain model may give the same bits at any size.
        """
        if not self.start or hidden.dtype != torch.float32 or not self.single:
            return 1
        return best_fold(len(hidden), self.stop - self.start, self.start)

    def of(self, value: Tensor) -> Tensor:
        """[R or 1, …] of the kept run's [B or 1, …]."""
        if value.shape[0] == 1:
            return value
        if self.single:
            row = int(self.rows[0])
            return value[row : row + 1]
        return value.index_select(0, self.rows.to(value.device))

    def once(self, key: tuple[object, ...], make: Any) -> Any:
        """What `make()` gives, made once: all blocks share their masks and position embeddings."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


class BaseRun:
    """One batch, run once as it is, with all that later runs of its rows can take from it.

    Attributes:
        states: the residual stream before each half and after the last: 2 · layers + 1 tensors [B, T, features].
        logits: what the model returned at the scored tokens, [B, classes].
        starts_with_embedding: whether `states[0]` is the embedding's output and nothing was done to it.
    """

    def __init__(self, model: Model, decoder: Decoder, inputs: Mapping[str, Tensor], scored: Tensor) -> None:
        """
        Args:
            scored: [B] int64, the token of each row whose logits are kept.

        Raises:
            CannotReplay: the attention takes arguments that are not known, or is not causal; NaN or Inf in the run.
        """
        self.decoder = decoder
        self.states: list[Tensor] = []
        self._calls: list[_Invocation] = []
        embedded: list[Tensor] = []
        pasts: list[Past] = []
        with torch.no_grad(), _watch(model.module, decoder, self.states, self._calls, pasts, embedded):
            logits = model.forward(inputs)
        if len(self.states) != len(decoder.halves) + 1 or len(self._calls) != decoder.layers:
            raise CannotReplay("the model does not run each half of each block exactly once")
        if len({(state.dtype, state.shape) for state in self.states}) > 1 or self.states[0].ndim != 3:
            raise CannotReplay("the residual stream changes its shape or dtype between halves")
        if not all(bool(state.isfinite().all()) for state in self.states):
            raise CannotReplay("the run holds NaN or Inf, which masked tokens pass on to those that do not see them")
        self.starts_with_embedding = len(embedded) == 1 and torch.equal(embedded[0], self.states[0])
        self.rows, self.tokens = (int(size) for size in self.states[0].shape[:2])
        self.logits = logits[torch.arange(self.rows, device=logits.device), scored.to(logits.device)]
        for layer, call in enumerate(self._calls):
            _check_causal(call, decoder.halves[2 * layer].core, self.tokens)
        self._past = [past.seen for past in pasts if past.seen is not None]
        if [keys.shape[2] for keys, _ in self._past] != [self.tokens] * decoder.layers:
            raise CannotReplay("the attention does not pass its keys and values to a cache")

    @property
    def bytes(self) -> int:
        kept = [*self.states, self.logits, *(tensor for pair in self._past for tensor in pair)]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def attend(self, layer: int, hidden: Tensor, chosen: Selection) -> Tensor:
        """What the attention half adds to residual states [R, stop − start, features] of the chosen rows and tokens."""
        keys, values = self._past[layer]
        past = Past()
        if chosen.start:
            past = Past(*(chosen.of(part)[:, :, : chosen.start] for part in (keys, values)))
        return self._run_attention(layer, hidden, chosen, past)

    def transform(self, layer: int, hidden: Tensor) -> Tensor:
        """What the MLP half adds to residual states [R, tokens, features]; tokens do not see each other in it."""
        half = self.decoder.halves[2 * layer + 1]
        return half.finish(output_tensor(half.core(output_tensor(half.before(hidden), "")), ""))

    def _run_attention(self, layer: int, hidden: Tensor, chosen: Selection, past: Past) -> Tensor:
        half = self.decoder.halves[2 * layer]
        call = self._calls[layer]
        fold = chosen.fold(hidden)
        normed = output_tensor(half.before(hidden), "").reshape(len(hidden) // fold, -1, hidden.shape[2])
        named = {name: self._argument(name, value, layer, chosen, past, fold) for name, value in call.named.items()}
        positional, named = with_input_tensor(call.positional, named, normed)
        return half.finish(output_tensor(half.core(*positional, **named), "")).reshape(hidden.shape)

    def _argument(self, name: str, value: Any, layer: int, chosen: Selection, past: Past, fold: int) -> Any:
        if name in _CACHES:
            return past
        if name == "attention_mask":
            device = self.states[2 * layer].device  # of no mask, one is made for each device
            return chosen.once((id(value), fold, device), lambda: _mask(value, chosen, device, fold))
        if name in _TOKEN_AXIS and value is not None:
            return chosen.once((id(value), fold), lambda: _tokens(value, _TOKEN_AXIS[name], chosen, fold))
        return value


def _tokens(value: Any, axis: int, chosen: Selection, fold: int) -> Any:
    """A tensor (or a tuple of them) cut to the chosen tokens, and to the chosen rows where it has rows."""
    if isinstance(value, tuple):
        return tuple(_tokens(part, axis, chosen, fold) for part in value)
    cut = value.narrow(axis, chosen.start, chosen.stop - chosen.start)
    return tile(chosen.of(cut) if axis else cut, axis, fold)


def _mask(mask: Tensor | None, chosen: Selection, device: torch.device, fold: int) -> Tensor | None:
    """The rows and columns of a [B or 1, heads or 1, T, T] mask; of no mask, which is causal, the same as one."""
    tokens = chosen.stop - chosen.start
    if mask is not None:
        cut = chosen.of(mask)[:, :, chosen.start : chosen.stop, : chosen.stop]
    elif fold == 1 and (chosen.start == 0 or tokens == 1):
        return None  # square, or one query that sees everything: no mask says the same
    else:
        cut = causal_mask(tokens, chosen.start, device)
    return cut if fold == 1 else fold_mask(cut, fold)


def _check_causal(call: _Invocation, attention: nn.Module, tokens: int) -> None:
    """Raises CannotReplay unless every argument is understood and no token sees a later one."""
    hidden = input_tensor(call.positional, call.named, "attention")
    for name, value in (*(("", value) for value in call.positional), *call.named.items()):
        known = name in (*_CACHES, *_TOKEN_AXIS, "attention_mask") or value is hidden
        if not known and not isinstance(value, Plain):
            raise CannotReplay(f"the attention takes '{name or 'a second positional argument'}', which is not known")
    for name in _TOKEN_AXIS:
        parts = call.named.get(name)
        for part in parts if isinstance(parts, tuple) else (parts,):
            if part is not None and not (isinstance(part, Tensor) and part.shape[_TOKEN_AXIS[name]] == tokens):
                raise CannotReplay(f"{name} of the attention does not follow the tokens")
    mask = call.named.get("attention_mask")
    if mask is None:
        implementation = getattr(getattr(attention, "config", None), "_attn_implementation", None)
        if implementation != "sdpa" or not getattr(attention, "is_causal", False):
            raise CannotReplay(f"no mask says that attention '{implementation}' is causal")
        return
    if not isinstance(mask, Tensor) or mask.ndim != 4 or tuple(mask.shape[2:]) != (tokens, tokens):
        raise CannotReplay("the attention mask is not [batch, heads, tokens, tokens]")
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device).triu(1)
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    if bool((seen & later).any()):
        raise CannotReplay("tokens attend to later ones")


@contextmanager
def _watch(
    module: nn.Module,
    decoder: Decoder,
    states: list[Tensor],
    calls: list[_Invocation],
    pasts: list[Past],
    embedded: list[Tensor],
) -> Iterator[None]:
    """Keeps the residual stream before each half and after the last, how each attention was called, its keys and
    values, and the embedding."""

    def keep(_module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        states.append(input_tensor(positional, named, "norm").detach().clone())  # live: it may be changed in place

    def called(
        _module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = input_tensor(positional, named, "attention")
        cache = _cache(named)
        pasts.append(Past(behind=named.get(cache)))
        named = {**named, cache: pasts[-1]}
        calls.append(_Invocation(*with_input_tensor(positional, named, hidden.new_empty(0))))  # its place is enough
        return positional, named

    def keep_output(kept: list[Tensor]) -> Callable[[nn.Module, Sequence[Any], Any], None]:
        return lambda _module, _inputs, output: kept.append(output_tensor(output, "block").detach().clone())

    handles = [half.before.register_forward_pre_hook(keep, with_kwargs=True) for half in decoder.halves]
    handles += [half.core.register_forward_pre_hook(called, with_kwargs=True) for half in decoder.halves[::2]]
    handles.append(module.get_submodule(decoder.blocks[-1]).register_forward_hook(keep_output(states)))
    handles.append(module.get_submodule(decoder.body.embed).register_forward_hook(keep_output(embedded)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _cache(named: Mapping[str, Any]) -> str:
    """The name under which this version of transformers passes a cache."""
    return next((name for name in _CACHES if name in named), _CACHES[0])
