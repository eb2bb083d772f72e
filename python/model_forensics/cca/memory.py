"""How many rows fit into memory: planned from a limit, and learned from running out of it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch

from model_forensics.config import parse_size
from model_forensics.config.variables import MAX_MEMORY
from model_forensics.errors import ConfigError
from model_forensics.models import Model

VARIABLE = MAX_MEMORY
_stated: ContextVar[int | None] = ContextVar("stated", default=None)
KEPT_BYTES = 2**30
"""For runs that others start from, of all calls together: without them every batch would run its call again."""
FREE_SHARE = 0.8
"""Of the memory that a GPU reports as free; the rest is for what the allocator cannot join."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Fitting(NamedTuple):
    rows: int
    tokens: int  # of all rows together


class Memory:
    """What one pass of rows may take, and what was learned about it.

    Attributes:
        limit: bytes for one pass beside the model; None where nothing states one.
        halvings: how often a pass ran out of memory and was split.
    """

    def __init__(self, device: torch.device) -> None:
        """
        Raises:
            ConfigError: `MODEL_FORENSICS_MAX_MEMORY` is no size.
        """
        self.limit = stated_limit()
        if self.limit is None and device.type == "cuda":
            self.limit = int(FREE_SHARE * torch.cuda.mem_get_info(device)[0])
        self.halvings = 0
        self._most_rows: int | None = None

    def tokens(self, model: Model, tokens: int) -> Fitting | None:
        """What fits of rows that are run from the middle of a call of so many tokens a row; None without a limit.

        Half of the limit is for what goes through the layers, half for the logits.
        """
        if self.limit is None:
            return None
        half = self.limit // 2
        return Fitting(half // logit_bytes(model), max(1, half // bytes_per_token(model, tokens)))

    def full_rows(self, model: Model, tokens: int) -> int | None:
        """Rows in one whole forward; None without a limit."""
        if self.limit is None:
            return None
        return max(1, self.limit // (tokens * (bytes_per_token(model, tokens) + logit_bytes(model))))

    def in_parts(self, items: Sequence[Item], run: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        """`run(items)`, in smaller parts where it runs out of memory; smaller from then on.

        Raises:
            torch.OutOfMemoryError: not even one item fits.
        """
        results: list[Result] = []
        done = 0
        while done < len(items):
            size = min(len(items) - done, self._most_rows or len(items))
            try:
                results += run(items[done : done + size])
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                self.halvings += 1
                self._most_rows = size // 2
                continue
            done += size
        return results


class Sized(Protocol):
    @property
    def bytes(self) -> int: ...


SizedItem = TypeVar("SizedItem", bound=Sized)


class Kept(Generic[SizedItem]):
    """What was made for each call, as much of it as fits; what was not used for longest goes first, the last stays."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._items: OrderedDict[int, SizedItem] = OrderedDict()

    def get(self, call: int) -> SizedItem | None:
        if call in self._items:
            self._items.move_to_end(call)
        return self._items.get(call)

    def put(self, call: int, item: SizedItem) -> None:
        self._items[call] = item
        while len(self._items) > 1 and sum(one.bytes for one in self._items.values()) > self._limit:
            self._items.popitem(last=False)


@contextmanager
def memory_limit(limit: int | None) -> Iterator[None]:
    """Within the body, one pass of rows may take `limit` bytes beside the model; None leaves it to the environment."""
    token = _stated.set(limit)
    try:
        yield
    finally:
        _stated.reset(token)


def stated_limit() -> int | None:
    """Bytes that `memory_limit` states, else `MODEL_FORENSICS_MAX_MEMORY`; None where neither does.

    Raises:
        ConfigError: the variable is no size.
    """
    text = os.environ.get(VARIABLE, "")
    if _stated.get() is not None or not text.strip():
        return _stated.get()
    try:
        return parse_size(text)
    except ValueError as problem:
        raise ConfigError(str(problem), where=VARIABLE, cure="Write it like 8GiB or 500MB") from problem


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU (which torch tells by a text only)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def bytes_per_token(model: Model, tokens: int) -> int:
    """An upper estimate of what one token of one row takes while a block runs, in bytes.

    The residual stream three times (state, norm, branch), four tensors of the widest layer (an MLP's activation is
    computed in steps), keys and values, and for each head two rows of attention scores, half as long again where rows
    are run as one (`models.folding`).
    """
    size = torch.empty(0, dtype=model.dtype or torch.float32).element_size()
    width = model.sites.width or 0
    widest = max((max(weight.shape) for weight in _block_weights(model)), default=width)
    return size * (5 * width + 4 * widest) + 4 * 3 * (model.sites.heads or 1) * tokens


def logit_bytes(model: Model) -> int:
    """Of one token's logits: in the model's dtype, and as float64."""
    classes = model.sites.get("logits").features or int(getattr(getattr(model.module, "config", None), "vocab_size", 0))
    size = torch.empty(0, dtype=model.dtype or torch.float32).element_size()
    return classes * (size + 8)


def _block_weights(model: Model) -> list[torch.Tensor]:
    """All weights but the vocabulary's; those of quantised layers may be buffers."""
    vocabulary = {id(p) for m in model.module.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    named = chain(model.module.named_parameters(), model.module.named_buffers())
    return [weight for name, weight in named if id(weight) not in vocabulary and "lm_head" not in name and weight.ndim]
