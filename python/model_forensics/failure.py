"""What it means for an output to fail, and to be right.

A failure is a predicate on the output logits plus a continuous score that is positive exactly when the output fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from model_forensics.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

FailureKind = Literal["token", "label", "nonfinite", "divergence"]
Logits = npt.NDArray[np.floating]
Outcome = Literal["failed", "suppressed", "fixed"]


class Failure(BaseModel):
    """A failure predicate. Build it with `token`, `label`, `nonfinite` or `divergence`.

    `wrong` and `right` are token ids (or class indices); a sample may carry its own, which override these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FailureKind
    wrong: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    position: int = -1  # scored token position among the sample's own tokens
    threshold_bits: float | None = None  # divergence only

    @model_validator(mode="after")
    def _check(self) -> Failure:
        if set(self.wrong) & set(self.right):
            raise ValueError(f"answers {sorted(set(self.wrong) & set(self.right))} are listed as both wrong and right")
        if any(answer < 0 for answer in (*self.wrong, *self.right)):
            raise ValueError("token ids and class indices must not be negative")
        if (self.kind == "divergence") != (self.threshold_bits is not None):
            raise ValueError("threshold_bits belongs to divergence failures, and they need it")
        if self.threshold_bits is not None and not 0 < self.threshold_bits < float("inf"):
            raise ValueError("threshold_bits must be a positive number")
        return self

    @staticmethod
    def token(wrong: Sequence[int] = (), right: Sequence[int] = (), position: int = -1) -> Failure:
        """A causal model prefers a wrong token: score = best wrong logit − best right logit."""
        return Failure(kind="token", wrong=tuple(wrong), right=tuple(right), position=position)

    @staticmethod
    def label(wrong: Sequence[int] = (), right: Sequence[int] = ()) -> Failure:
        """A classifier prefers a wrong class; same score as `token`, on the one output row of a sample."""
        return Failure(kind="label", wrong=tuple(wrong), right=tuple(right))

    @staticmethod
    def nonfinite(right: Sequence[int] = (), position: int = -1) -> Failure:
        """The output holds NaN or Inf: score = their share among the logits."""
        return Failure(kind="nonfinite", right=tuple(right), position=position)

    @staticmethod
    def divergence(threshold_bits: float, position: int = -1) -> Failure:
        """The output departs from a reference model's: score = KL(reference ‖ run) − threshold, in bits."""
        return Failure(kind="divergence", threshold_bits=threshold_bits, position=position)

    def with_answers(self, wrong: Sequence[int] | None, right: Sequence[int] | None) -> Failure:
        """The predicate for one sample, with that sample's own answers where it has them."""
        if wrong is None and right is None:
            return self
        return Failure(
            kind=self.kind,
            wrong=self.wrong if wrong is None else tuple(wrong),
            right=self.right if right is None else tuple(right),
            position=self.position,
            threshold_bits=self.threshold_bits,
        )

    def score(self, logits: Logits, reference: Logits | None = None) -> float:
        """Positive exactly when the output fails.

        Args:
            logits: [classes], the output at the scored position.
            reference: [classes], the reference model's output on the same input (`divergence` only).

        Raises:
            OutputError: logits hold NaN or Inf and the failure is not `nonfinite`; an answer is out of range; the
                predicate has neither wrong nor right answers; `divergence` without a reference.
        """
        values: npt.NDArray[np.float64] = np.asarray(logits, dtype=np.float64)
        finite = np.isfinite(values)
        if self.kind == "nonfinite":
            return float(1.0 - finite.mean())
        if not finite.all():
            raise OutputError(
                f"{int((~finite).sum())} of {values.size} logits are NaN or Inf, "
                f"so a '{self.kind}' failure cannot be judged",
                cure="Record the incident with Failure.nonfinite() if that is the failure",
            )
        if self.kind == "divergence":
            return self._divergence(values, reference)
        return self._margin(values)

    def outcome(self, logits: Logits, reference: Logits | None = None) -> Outcome:
        """`failed`; `fixed` when the failure is gone and the answer is the right one; else `suppressed`.

        The right answer is one of `right`, or without these what the reference model answers. Where neither is
        known, an output that no longer fails is `suppressed`: nothing shows that it is right.
        """
        logits = np.asarray(logits)
        if self.kind != "nonfinite" and not np.isfinite(logits).all():
            return "suppressed"  # an intervention that breaks the output has not fixed it
        if self.score(logits, reference) > 0:
            return "failed"
        answer = int(np.argmax(logits))
        if self.right:
            return "fixed" if answer in self.right else "suppressed"
        if reference is not None and np.isfinite(reference).all():
            return "fixed" if answer == int(np.argmax(reference)) else "suppressed"
        return "suppressed"

    def in_words(self) -> str:
        """One line for people."""
        where = "the last token" if self.position == -1 else f"token {self.position}"
        if self.kind == "nonfinite":
            return f"NaN or Inf in the output at {where}"
        if self.kind == "divergence":
            return f"output at {where} more than {self.threshold_bits:g} bits (KL) from the reference model's"
        noun = "token" if self.kind == "token" else "label"
        wrong = f"{noun} {', '.join(map(str, self.wrong))}" if self.wrong else f"another {noun}"
        right = f"{noun} {', '.join(map(str, self.right))}" if self.right else "each sample's right answer"
        return f"{wrong} instead of {right}" + (f" at {where}" if self.kind == "token" else "")

    def _margin(self, logits: npt.NDArray[np.float64]) -> float:
        for answer in (*self.wrong, *self.right):
            if answer >= logits.size:
                raise OutputError(
                    f"answer {answer} is outside the model's {logits.size} outputs",
                    cure="Give token ids or class indices of this model",
                )
        if not self.wrong and not self.right:
            raise OutputError(
                f"the '{self.kind}' failure names neither wrong nor right answers",
                cure="Give them to the failure, or to each sample",
            )
        wrong = np.zeros(logits.size, dtype=bool)
        right = np.zeros(logits.size, dtype=bool)
        wrong[list(self.wrong)] = True
        right[list(self.right)] = True
        if not self.wrong:
            wrong = ~right
        if not self.right:
            right = ~wrong
        if not wrong.any() or not right.any():
            raise OutputError("every output is listed as wrong, or as right", cure="Leave at least one on each side")
        return float(logits[wrong].max() - logits[right].max())

    def _divergence(self, logits: npt.NDArray[np.float64], reference: Logits | None) -> float:
        assert self.threshold_bits is not None
        if reference is None:
            raise OutputError(
                "a 'divergence' failure needs the reference model's output",
                cure="Pass --donor-model, or record `reference_logits` with each sample",
            )
        return kl_bits(np.asarray(reference, dtype=np.float64), logits) - self.threshold_bits


def kl_bits(reference: Logits, logits: Logits) -> float:
    """KL(softmax(reference) ‖ softmax(logits)) in bits; both [classes] and finite."""
    p = log_softmax(reference)
    q = log_softmax(logits)
    return float(max(0.0, np.sum(np.exp(p) * (p - q)) / np.log(2)))


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
