"""Running a model without its first blocks: they give what they gave in a run that was kept.

For models whose tokens see later ones, and for any other whose blocks are known, but not what is inside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from model_forensics.models.families import find_body
from model_forensics.models.model import Model


def skippable_blocks(module: nn.Module) -> tuple[str, ...]:
    """Paths of the blocks, in the order in which they run; none where they are unknown or others watch them.

    A hook of someone else's would run a second time on what it has already changed.
    """
    body = find_body(module)
    paths = () if body is None else tuple(block.path for block in body.blocks)
    watched = any(block._forward_hooks or block._forward_pre_hooks for block in map(module.get_submodule, paths))
    return () if watched else paths


class BlockOutputs:
    """What each block returned for one batch.

    Attributes:
        kept: whether they can be given again: each block ran once and returned tensors of the batch's rows only.
    """

    def __init__(self, model: Model, paths: Sequence[str], inputs: Mapping[str, Tensor], rows: int) -> None:
        self._model = model
        self._paths = list(paths)
        self._rows = rows
        self._outputs: list[Any] = []
        handles = [
            model.module.get_submodule(path).register_forward_hook(lambda _m, _i, out: self._outputs.append(out))
            for path in paths
        ]
        try:
            with torch.no_grad():
                model.forward(inputs)
        finally:
            for handle in handles:
                handle.remove()
        self.kept = len(self._outputs) == len(self._paths) and all(map(self._per_row, self._outputs))

    @property
    def bytes(self) -> int:
        parts = [part for output in self._outputs for part in (output if isinstance(output, tuple) else (output,))]
        return sum(part.numel() * part.element_size() for part in parts if isinstance(part, Tensor))

    @contextmanager
    def skipping(self, first: int, rows: Sequence[int]) -> Iterator[None]:
        """While open, the blocks before `first` return what they returned for these rows of the batch."""
        index = torch.as_tensor(list(rows), dtype=torch.long)
        skipped = [self._model.module.get_submodule(path) for path in self._paths[:first]]
        before = [block.__dict__.get("forward") for block in skipped]
        try:
            # Only the last one's result is read by a block that runs: the others need not be of the right rows.
            for number, block in enumerate(skipped):
                output = self._outputs[number]
                value = _rows_of(output, index) if number == first - 1 else output
                block.forward = lambda *_args, value=value, **_named: value
            yield
        finally:
            for block, original in zip(skipped, before, strict=True):
                if original is None:
                    del block.forward
                else:
                    block.forward = original

    def _per_row(self, output: Any) -> bool:
        parts = output if isinstance(output, tuple) else (output,)
        return all(part is None or (isinstance(part, Tensor) and part.shape[:1] == (self._rows,)) for part in parts)


def _rows_of(output: Any, index: Tensor) -> Any:
    if isinstance(output, tuple):
        return tuple(_rows_of(part, index) for part in output)
    return None if output is None else output.index_select(0, index.to(output.device))
