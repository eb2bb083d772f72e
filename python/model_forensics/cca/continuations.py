"""Greedy continuations with the interventions on at every step, many rows at once and one plain row to check them.

A continuation is verified instead of generated where it can be: the tokens that a row is expected to generate (the
failed continuation, the reference's, those of earlier rows) are run in one forward behind its prompt. In a causal model
each position computes what it would compute if only the tokens before it were there, so the tokens up to the first one
that the row would not have chosen, and the one that it chooses instead, are exactly its greedy continuation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model_forensics.cca.edits import batch_edits, plain_edit, repeated
from model_forensics.cca.jobs import Edits, Job, own_tolerance, relative_error
from model_forensics.cca.memory import Memory
from model_forensics.cca.sequences import Tokens
from model_forensics.errors import ModelError, OutputError
from model_forensics.models import Model, hooks

KEPT_DRAFTS = 32
"""Continuations of one sample that later rows are compared with."""
CHECK_EVERY = 16
"""Calls between self-checks after the first; of calls with edits, and of those without."""

EditsAt = Callable[[Tokens], Edits]
"""The edits of a run of a sample's prompt followed by these generated tokens."""


def no_edits(_: Tokens) -> Edits:
    return {}


@dataclass(frozen=True)
class Continuation:
    """What a row generates.

    Attributes:
        tokens: the generated tokens, the end token included where there is one.
        broken: logits of the next token hold NaN or Inf, so nothing follows these tokens.
    """

    tokens: Tokens
    broken: bool = False


@dataclass(frozen=True)
class Request:
    """A row to continue: the prompt of this sample under these edits."""

    sample: int
    edits: EditsAt = no_edits


@dataclass
class _Row:
    request: Request
    known: Tokens = ()
    result: Continuation | None = None


class Decoder:
    """Continues the prompts of one incident on one model.

    Attributes:
        limit: tokens that are generated at most.
        ends: tokens that end a generation.
        rows_run: rows that went through the model, checks included.
    """

    def __init__(
        self, model: Model, prompts: Sequence[Tokens], *, limit: int, max_rows: int, masked: bool, seed: int = 0
    ) -> None:
        """
        Args:
            limit: tokens that are generated at most.
            masked: whether the model is given an attention mask.
        """
        self.model = model
        self.prompts = tuple(prompts)
        self.limit = limit
        self.rows_run = 0
        self._max_rows = max_rows
        self._masked = masked
        self._memory = Memory(model.device)
        self.ends = end_tokens(model)
        self._drafts: list[list[Tokens]] = [[] for _ in prompts]
        self._random = np.random.default_rng([seed, 7])
        self._calls = {True: 0, False: 0}  # with edits, and without

    def on(self, model: Model) -> Decoder:
        """The same prompts on another model."""
        return Decoder(model, self.prompts, limit=self.limit, max_rows=self._max_rows, masked=self._masked)

    def expect(self, sample: int, tokens: Tokens) -> None:
        """Rows of this sample may well generate these tokens."""
        drafts = self._drafts[sample]
        if tokens and tokens not in drafts and len(drafts) < KEPT_DRAFTS:
            drafts.append(tokens)

    def is_complete(self, tokens: Tokens) -> bool:
        """Whether nothing would be generated behind these."""
        return len(tokens) >= self.limit or (bool(tokens) and tokens[-1] in self.ends)

    def run(self, requests: Sequence[Request], before_forward: Callable[[], None] = lambda: None) -> list[Continuation]:
        """The greedy continuation of every row.

        Args:
            before_forward: called before each forward; what it raises ends the run, and nothing is returned.

        Raises:
            InterventionError: an edit does not fit.
            ModelError: a row's continuation departs from that of the same row run plainly.
        """
        rows = [_Row(request) for request in requests]
        while active := [row for row in rows if row.result is None]:
            for batch in self._batches(active):
                before_forward()
                self._memory.in_parts(batch, self._advance)
        found = [row.result for row in rows if row.result is not None]
        for request, continuation in zip(requests, found, strict=True):
            self.expect(request.sample, continuation.tokens)
        edited = [place for place, request in enumerate(requests) if request.edits is not no_edits]
        if found and self._calls[bool(edited)] % CHECK_EVERY == 0:
            place = int(self._random.choice(edited or len(found)))
            self._check(requests[place], found[place], len(found))
        self._calls[bool(edited)] += 1
        return found

    def run_plain(self, request: Request) -> Continuation:
        """The same by plain hooks on one row, one forward a token: what `run` answers to."""
        known: Tokens = ()
        while len(known) < self.limit:
            logits = self._last_logits(request, known)
            if not np.isfinite(logits).all():
                return Continuation(known, broken=True)
            known = (*known, int(logits.argmax()))
            if known[-1] in self.ends:
                break
        return Continuation(known)

    # --- many rows ------------------------------------------------------------------------------

    def _expected(self, row: _Row) -> Tokens:
        """What the row is run with behind its prompt: its known tokens, and what it may go on with."""
        size = len(row.known)
        fitting = (d for d in self._drafts[row.request.sample] if len(d) > size and d[:size] == row.known)
        draft = next(fitting, None)
        return row.known if draft is None else draft[: self.limit][:-1]  # nothing has to follow the last one

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Rows of equally many tokens, so that none is padded."""
        by_length: dict[int, list[_Row]] = {}
        for row in rows:
            by_length.setdefault(len(self.prompts[row.request.sample]) + len(self._expected(row)), []).append(row)
        for tokens, members in by_length.items():
            fitting = self._memory.full_rows(self.model, tokens)
            size = self._max_rows if fitting is None else min(self._max_rows, fitting)
            yield from (members[start : start + size] for start in range(0, len(members), size))

    def _advance(self, rows: Sequence[_Row]) -> list[None]:
        """One forward; every row gains at least one token."""
        fed = [self._expected(row) for row in rows]
        jobs = [
            (place, Job(0, place, row.request.edits(tokens)))
            for place, (row, tokens) in enumerate(zip(rows, fed, strict=True))
        ]
        sequences = [self.prompts[row.request.sample] + tokens for row, tokens in zip(rows, fed, strict=True)]
        guessed = [len(tokens) - len(row.known) for row, tokens in zip(rows, fed, strict=True)]
        with torch.no_grad(), hooks.edit(self.model.module, batch_edits(jobs, None)):
            logits = self._forward(sequences, 1 + max(guessed))
        for row, tokens, count, own in zip(rows, fed, guessed, logits, strict=True):
            tail = own[own.shape[0] - count - 1 :]
            chosen, finite = tail.argmax(dim=-1).tolist(), tail.isfinite().all(dim=-1).tolist()
            self._accept(row, tokens, chosen, finite)
        return [None] * len(rows)

    def _accept(self, row: _Row, fed: Tokens, chosen: Sequence[int], finite: Sequence[bool]) -> None:
        """Take what the row chooses behind its known tokens, as long as it is what it was fed, and one token more."""
        for token, known in zip(chosen, finite, strict=True):
            place = len(row.known)
            if not known:
                row.result = Continuation(row.known, broken=True)
                return
            row.known = (*row.known, token)
            if token in self.ends or len(row.known) == self.limit:
                row.result = Continuation(row.known)
                return
            if place < len(fed) and fed[place] != token:
                return

    def _forward(self, sequences: Sequence[Tokens], last: int) -> torch.Tensor:
        """[rows, tokens, classes], of the `last` tokens where the model can leave out the others: of a large vocabulary
        they take most of the memory.
        """
        ids = torch.tensor(sequences, dtype=torch.long)
        self.rows_run += len(sequences)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if self._masked else {"input_ids": ids}
        logits = self.model.forward(inputs, last=last)
        kept = last if self.model.takes_logits_to_keep else ids.shape[1]
        if logits.ndim != 3 or logits.shape[:2] != (len(sequences), kept):
            raise OutputError(
                f"an output of shape {list(logits.shape)} for {list(ids.shape)} tokens cannot be continued with text",
                cure="Give a causal language model, which returns [batch, tokens, classes]",
            )
        return logits

    # --- one row --------------------------------------------------------------------------------

    def _last_logits(self, request: Request, known: Tokens, copies: int = 1) -> np.ndarray:
        """[classes] float64 behind the last token."""
        edits = {tap: plain_edit(tap, None, replacement) for tap, replacement in request.edits(known).items()}
        if copies > 1:
            edits = {tap: repeated(edit, copies) for tap, edit in edits.items()}
        with torch.no_grad(), hooks.edit(self.model.module, edits):
            logits = self._forward([self.prompts[request.sample] + known] * copies, 1)
        return np.asarray(logits[0, -1].to(torch.float64).cpu().numpy())

    def _check(self, request: Request, found: Continuation, rows: int) -> None:
        """Rule 6: the fast path answers to plain hooks; only where two tokens are as good may it choose the other."""
        plain = self.run_plain(request)
        if plain == found:
            return
        shared = common(plain.tokens, found.tokens)
        logits = self._last_logits(request, plain.tokens[:shared])
        if shared < min(len(plain.tokens), len(found.tokens)):
            first, second = logits[plain.tokens[shared]], logits[found.tokens[shared]]
            gap = float(first - second) / max(float(np.abs(logits).max()), float(np.finfo(np.float32).tiny))
            copies = self._last_logits(request, plain.tokens[:shared], copies=min(max(rows, 2), max(self._max_rows, 2)))
            if gap <= 2 * max(own_tolerance(self.model.dtype), relative_error(copies, logits)):
                return
        raise ModelError(
            f"a batched continuation departs from the same row run alone at generated token {shared}",
            where=", ".join(tap.name for tap in request.edits(())) or "no edit",
            cure="Tokens must not see later ones, nor other rows: check the model, or set max_batch_rows to 1",
        )


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(left, right, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def end_tokens(model: Model) -> Collection[int]:
    """Tokens that end a generation, as the model's own configuration names them."""
    ends = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    if ends is None:
        return ()
    return (int(ends),) if isinstance(ends, int) else tuple(int(end) for end in ends)
