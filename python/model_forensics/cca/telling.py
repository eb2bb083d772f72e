"""How a `text` failure is judged and scored: the failed continuation, the reference's, and where they part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.cca.continuations import Continuation, common
from model_forensics.cca.sequences import Tokens
from model_forensics.errors import UsageError
from model_forensics.failure import Failure, Outcome
from model_forensics.models import Model

FLAT = 1.0
"""The score of a failing continuation where no reference tells what it should be; −1 of one that does not fail."""
SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Telling:
    """One sample's continuations.

    Attributes:
        failed: what the unedited model generates.
        reference: what a healthy run on the same input generates, None where there is none.
        decode: from tokens to text.
    """

    failed: Tokens
    reference: Tokens | None
    decode: Callable[[Tokens], str]

    @property
    def pair(self) -> tuple[int, int] | None:
        """The first token of the failed continuation that differs from the reference's, and the reference's there."""
        if self.reference is None:
            return None
        place = common(self.failed, self.reference)
        if place >= min(len(self.failed), len(self.reference)):
            return None
        return self.failed[place], self.reference[place]

    @property
    def shared(self) -> Tokens:
        """The tokens that both begin with; none where they do not part."""
        if self.reference is None or self.pair is None:
            return ()
        return self.failed[: common(self.failed, self.reference)]

    def judge(
        self, failure: Failure, logits: npt.NDArray[np.float64], continuation: Continuation
    ) -> tuple[float, Outcome]:
        """Score and outcome of a run.

        The score is the logit of the failed continuation's token less that of the reference's, where they part; held on
        the predicate's side of zero, since the text decides what fails. Without a reference it is 1 or −1. A broken run
        is `suppressed` with an infinite score.

        Args:
            logits: [classes] behind the prompt and the shared tokens.
        """
        if continuation.broken or not np.isfinite(logits).all():
            return float("inf"), "suppressed"
        same = self.reference is not None and continuation.tokens == self.reference
        outcome = failure.text_outcome(self.decode(continuation.tokens), is_reference=same)
        pair = self.pair
        if pair is None:
            return (FLAT if outcome == "failed" else -FLAT), outcome
        margin = float(logits[pair[0]] - logits[pair[1]])
        return (max(margin, SMALLEST) if outcome == "failed" else min(margin, 0.0)), outcome


def decoder_of(model: Model) -> Callable[[Tokens], str]:
    """From tokens to text, by the model's tokenizer; special tokens are left out.

    Raises:
        UsageError: the model came without one.
    """
    decode: Any = getattr(model.tokenizer, "decode", None)
    if decode is None:
        raise UsageError(
            "a 'text' failure is judged on text, and the model came without a tokenizer",
            where=model.source,
            cure="Put the tokenizer's files beside the weights, return (module, tokenizer) from the factory, or pass"
            " Model.wrap(module, tokenizer=...)",
        )
    return lambda tokens: str(decode(list(tokens), skip_special_tokens=True))
