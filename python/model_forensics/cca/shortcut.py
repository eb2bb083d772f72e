"""The fast way to run jobs: from the middle of their call's own run, where that is exact; else, why it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model_forensics.cca.calls import Calls
from model_forensics.cca.jobs import Job, Logits, relative_error
from model_forensics.cca.memory import Kept, Memory
from model_forensics.cca.plain import PlainRuns
from model_forensics.cca.routes import Route, Router, batched, passes
from model_forensics.cca.walk import Walk
from model_forensics.models import Model
from model_forensics.models.decoder import find_decoder
from model_forensics.models.middle import BaseRun, CannotReplay

OVERHEAD_TOKENS = {"cpu": 24}
"""A pass over the layers costs about as much again as so many tokens; measured on two CPU cores."""
DEVICE_OVERHEAD_TOKENS = 2048
SHORT_ROWS = 4
"""Rows of few tokens may be so many times as many as whole ones: each still has a whole row of logits."""
PROVEN_TOKENS = 64
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Shortcut:
    """Runs jobs of one recording from the first half that they change.

    Attributes:
        reason: why it does not serve this model; None while it does.
        base_rows: rows of the calls' own runs.
        rows_from_middle: rows run from the middle of these, proofs included.
    """

    def __init__(self, model: Model, calls: Calls, plain: PlainRuns, position: int) -> None:
        self._model = model
        self._calls = calls
        self._plain = plain
        self._position = position
        self._routers: dict[int, Router] = {}
        self._bases: Kept[BaseRun] = Kept()
        self._proven: dict[int, bool] = {}  # call → whether it starts with the embedding
        found = find_decoder(model.module)
        self.reason = found if isinstance(found, str) else None
        self._decoder = None if isinstance(found, str) else found
        if model.dtype not in _DTYPES:
            self.reason = f"a model of {model.dtype} is not edited in place"
        self.base_rows = 0
        self.rows_from_middle = 0

    def serves(self, job: Job) -> bool:
        """Whether this job can be run so. The first job of a call runs the call once, as the base, and proves it."""
        if self.reason is not None:
            return False
        if not all(map(self._router(job.call).knows, job.edits)):
            return False
        if job.call not in self._proven and not self._prove(job.call):
            return False
        return self._proven[job.call] or all(tap.kind != "embed" for tap in job.edits)

    def groups(self, jobs: Sequence[Job], max_rows: int, memory: Memory) -> list[list[int]]:
        """Indices of jobs of one call that are run at once.

        Args:
            max_rows: rows of all tokens; of rows that are run at fewer tokens, up to `SHORT_ROWS` times as many.
        """
        base = self._base(jobs[0].call)
        routes = [self._router(job.call).route(job) for job in jobs]
        most_rows = 1 if max_rows == 1 else SHORT_ROWS * max_rows
        most_tokens = max_rows * base.tokens
        limit = memory.tokens(self._model, base.tokens)
        if limit is not None:
            most_rows = min(most_rows, max(1, limit.rows))
            most_tokens = min(most_tokens, limit.tokens)
        return batched(routes, most_rows, most_tokens)

    def run(self, jobs: Sequence[Job]) -> list[Logits]:
        """[classes] float64 at the scored position of each job; all of one call.

        Raises:
            InterventionError: a replacement does not fit its site.
        """
        base = self._base(jobs[0].call)
        router = self._router(jobs[0].call)
        routes = [router.route(job) for job in jobs]
        results = {i: base_logits(base, route.row) for i, route in enumerate(routes) if not route.changes}
        changing = [i for i, route in enumerate(routes) if route.changes]
        if changing:
            self.rows_from_middle += len(changing)
            results.update(zip(changing, self._walk(base, [routes[i] for i in changing]), strict=True))
        return [results[i] for i in range(len(jobs))]

    def _walk(self, base: BaseRun, routes: Sequence[Route]) -> list[Logits]:
        overhead = OVERHEAD_TOKENS.get(self._model.device.type, DEVICE_OVERHEAD_TOKENS)
        groups = passes(routes, overhead)
        with torch.no_grad():
            final = torch.cat([Walk(self._model, base, [routes[i] for i in group]).run() for group in groups])
            logits = base.decoder.logits(final[:, None])[:, 0].to(torch.float64).cpu().numpy()
        order = [i for group in groups for i in group]
        results = dict(zip(order, logits, strict=True))
        return [results[i] for i in range(len(routes))]

    def _router(self, call: int) -> Router:
        if call not in self._routers:
            assert self._decoder is not None
            inputs = self._calls[call]
            tokens = self._calls.tokens(call)
            self._routers[call] = Router(self._decoder, inputs.mask, tokens, self._position)
        return self._routers[call]

    def _prove(self, call: int) -> bool:
        """Whether running from the middle reproduces the call's own run; the reason is kept where it does not."""
        try:
            base = self._base(call)
        except CannotReplay as error:
            self.reason = str(error)
            return False
        self.reason = self._disproof(base, call)
        self._proven[call] = base.starts_with_embedding
        return self.reason is None

    def _base(self, call: int) -> BaseRun:
        """The call's own run.

        Raises:
            CannotReplay: it cannot be continued from its middle.
        """
        base = self._bases.get(call)
        if base is None:
            assert self._decoder is not None
            inputs, router = self._calls[call], self._router(call)
            scored = torch.tensor([router.scored(row) for row in range(inputs.size)])
            base = BaseRun(self._model, self._decoder, inputs.inputs, scored)
            self.base_rows += base.rows
            self._bases.put(call, base)
        return base

    def _disproof(self, base: BaseRun, call: int) -> str | None:
        """Rows without edits, through all layers, from a middle token on, against the call.

        The shortest and the longest row, because padding is what they differ in.
        """
        router = self._router(call)
        by_length = sorted(range(base.rows), key=lambda row: router.columns(row).size)
        for row in sorted({by_length[0], by_length[-1]}):
            stop = router.scored(row) + 1
            start = max(stop // 2, stop - PROVEN_TOKENS)
            self.rows_from_middle += 2
            found = self._walk(base, [Route(row, start, stop, entry=0)] * 2)  # two, for rows that are run as one
            error = max(relative_error(logits, base_logits(base, row)) for logits in found)
            if error > self._plain.allowed(Job(call, row, {}), error, base.rows):
                return f"a run from token {start} on departs from the whole run by {error:.3g} of the largest logit"
        return None


def base_logits(base: BaseRun, row: int) -> Logits:
    """[classes] at the row's scored token, bit for bit as the call's own run gave them."""
    return np.asarray(base.logits[row].to(torch.float64).cpu().numpy())
