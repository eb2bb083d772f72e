"""Whole forwards, without the blocks before the first edit of a batch where these are known."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from model_forensics.cca.calls import Calls
from model_forensics.cca.jobs import Job
from model_forensics.cca.memory import Kept
from model_forensics.models import Model
from model_forensics.models.blocks import BlockOutputs, skippable_blocks


class WholeForwards:
    """Which blocks of a model a batch of jobs need not run."""

    def __init__(self, model: Model, calls: Calls) -> None:
        self._model = model
        self._calls = calls
        self._blocks = skippable_blocks(model.module)
        self._outputs: Kept[BlockOutputs] = Kept()
        self.rows_run = 0

    def first(self, job: Job) -> int:
        """The first block that the job needs to run; 0 is the whole model."""
        if not self._blocks:
            return 0
        return min((self._block(tap.module) for tap in job.edits), default=len(self._blocks))

    def skipping(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        """While open, the model runs for these jobs of one call, in this order, without the blocks that none needs."""
        first = min(map(self.first, jobs))
        if not first:
            return nullcontext()
        outputs = self._kept(jobs[0].call)
        return outputs.skipping(first, [job.row for job in jobs]) if outputs.kept else nullcontext()

    def _block(self, module: str) -> int:
        """The block that holds a module; 0 for what lies before or beside them all, which may be anywhere."""
        held = [i for i, path in enumerate(self._blocks) if module == path or module.startswith(f"{path}.")]
        return held[0] if held else 0

    def _kept(self, call: int) -> BlockOutputs:
        outputs = self._outputs.get(call)
        if outputs is None:
            batch = self._calls[call]
            outputs = BlockOutputs(self._model, self._blocks, batch.inputs, batch.size)
            self.rows_run += batch.size
            self._outputs.put(call, outputs)
        return outputs
