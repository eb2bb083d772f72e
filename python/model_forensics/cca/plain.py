"""Rows run the plain way, one alone in its batch, which every faster way answers to; and how coarse that way is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from model_forensics.cca.calls import Call, Calls
from model_forensics.cca.edits import Edit, plain_edit, repeated
from model_forensics.cca.jobs import UNITS, Job, Logits, own_tolerance, relative_error, tolerance
from model_forensics.errors import ModelError
from model_forensics.models import Model, Tap, hooks
from model_forensics.models import rows as model_rows

TOKEN_AXIS = {
    "input_ids": 1,
    "inputs_embeds": 1,
    "attention_mask": 1,
    "token_type_ids": 1,
    "position_ids": 1,
    "cache_position": 0,
}
MORE_PADDING = (1, 2, 3, 5, 8, 13)
"""Tokens; sizes of tensors for which another kernel may be chosen."""


class PlainRuns:
    """Whole forwards of single rows, each site overwritten by one simple hook.

    Attributes:
        rows_run: rows that went through the model.
    """

    def __init__(self, model: Model, calls: Calls, position: int) -> None:
        self._model = model
        self._calls = calls
        self._position = position
        self.rows_run = 0

    def run(self, job: Job, *, copies: int = 1, padded: bool = True) -> Logits:
        """[classes] float64 at the scored position.

        Args:
            copies: rows of the batch, all of them this one; the first is returned.
            padded: False leaves out the padding after the row's last token.
        """
        call = self._calls[job.call].take([job.row])
        if not padded:
            call = unpadded(call)
        edits = {tap: plain_edit(tap, call.mask, replacement) for tap, replacement in job.edits.items()}
        if copies > 1:
            edits = {tap: repeated(edit, copies) for tap, edit in edits.items()}
            call = call.take([0] * copies)
        self.rows_run += copies
        return forward(self._model, call, edits, self._position)[0]

    def allowed(self, job: Job, error: float, rows: int) -> float:
        """How far a run of this job that is off by `error` may be: the tolerance of the model's type, and where that
        is exceeded twice what the model differs from itself by.

        Args:
            rows: rows that the faster way ran at once.
        """
        dtype = self._model.dtype
        limit = own_tolerance(dtype)
        if error > limit:
            limit = max(limit, 2 * self._own_rounding(job, self._in_other_batches(job, rows)))
        if error > limit and dtype in UNITS:
            # Padding may take part in more than rounding, such as in a scale of all tokens: a few units are believed.
            own = 2 * self._own_rounding(job, self._with_other_padding(job))
            limit = max(limit, min(own, tolerance(str(dtype))))
        return limit

    def _own_rounding(self, job: Job, others: Iterator[Logits]) -> float:
        """The largest difference between the row alone, without padding after it, and the same row run otherwise. No
        other row and nothing of a faster way takes part: this is what the size of a tensor alone does to the order of
        the model's sums.
        """
        alone = self.run(job, padded=self._model.sites.family == "module")  # which may be made for its recorded length
        errors = [relative_error(other, alone) for other in others]
        # NaN in one of them only (from padding, say) is no rounding, and must not excuse any other difference.
        return max((error for error in errors if np.isfinite(error)), default=0.0)

    def _in_other_batches(self, job: Job, rows: int) -> Iterator[Logits]:
        """The row padded as it was recorded, alone and among its own copies."""
        for copies in sorted({1, 2, max(rows, 2)}):
            yield self.run(job, copies=copies)

    def _with_other_padding(self, job: Job) -> Iterator[Logits]:
        """The row with more padding behind it. On a GPU that changes 16-bit sums where copies do not."""
        call = self._calls[job.call].take([job.row])
        for tokens in MORE_PADDING if call.inputs.keys() <= {"input_ids", "attention_mask"} else ():
            self.rows_run += 1
            longer = padded_behind(call, tokens)
            edits = {tap: plain_edit(tap, longer.mask, replacement) for tap, replacement in job.edits.items()}
            yield forward(self._model, longer, edits, self._position)[0]


def forward(model: Model, call: Call, edits: Mapping[Tap, Edit], position: int) -> list[Logits]:
    """All rows of a call with these edits: [classes] float64 at the scored position of each.

    Raises:
        InterventionError: an edit does not fit its site.
        ModelError: the model returned another number of rows than it was given.
    """
    with torch.no_grad(), hooks.edit(model.module, edits):
        logits = model.forward(call.inputs)
    return scored(logits, call, position)


def unpadded(call: Call) -> Call:
    """A call of one row without the padding after its last token; the same call where it holds other inputs than these.

    Padding before the first token stays: without it the tokens might get other positions.
    """
    if call.mask is None or not call.inputs.keys() <= TOKEN_AXIS.keys():
        return call
    stop = int(call.mask[0].nonzero().max()) + 1
    inputs = {name: value.narrow(TOKEN_AXIS[name], 0, stop) for name, value in call.inputs.items()}
    return Call(inputs, call.mask[:, :stop], call.size)


def padded_behind(call: Call, tokens: int) -> Call:
    """A call of one row of input ids, perhaps masked, with so many more tokens that are masked."""
    ids = call.inputs["input_ids"]
    mask = call.inputs.get("attention_mask", torch.ones_like(ids))
    longer = torch.cat([mask, mask.new_zeros(1, tokens)], dim=1)
    inputs = {"input_ids": torch.cat([ids, ids[:, -1:].expand(1, tokens)], dim=1), "attention_mask": longer}
    return Call(inputs, longer != 0, call.size)


def scored(logits: torch.Tensor, call: Call, position: int) -> list[Logits]:
    """[classes] float64 per row of the call.

    Raises:
        ModelError: the model returned another number of rows than it was given.
    """
    picked = model_rows.scored_logits(logits, call.mask, position).detach().to(torch.float64).cpu().numpy()
    if picked.shape[0] != call.size:
        raise ModelError(
            f"the model returned {picked.shape[0]} rows for a batch of {call.size}",
            cure="The model must treat the first dimension of its inputs as the batch",
        )
    return [np.asarray(row) for row in picked]
