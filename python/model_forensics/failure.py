"""What it means for an output to fail, and to be right.

A failure is a predicate on the output logits plus a continuous score that is positive exactly when the output fails.
A `text` failure is a predicate on a greedy continuation; its score needs another continuation to compare with, so it
is made where both are known (`cca.telling`).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from model_forensics.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

FailureKind = Literal["token", "label", "nonfinite", "divergence", "text"]
Logits = npt.NDArray[np.floating]
Outcome = Literal["failed", "suppressed", "fixed"]

MAX_PATTERN = 4096
"""Characters of a pattern."""
MAX_COMPILED = 1_000_000
"""Characters of a pattern, times what its counted repetitions multiply them by: compiling writes them out."""
MAX_NEW_TOKENS = 4096
PATTERN_SECONDS = 5.0
"""A pattern comes from a bundle, and one with nested repetitions could take for ever."""


class Failure(BaseModel):
    """A failure predicate. Build it with `token`, `label`, `nonfinite`, `divergence` or `text`.

    `wrong` and `right` are token ids (or class indices); a sample may carry its own, which override these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FailureKind
    wrong: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    position: int = -1  # scored token position among the sample's own tokens
    threshold_bits: float | None = None  # divergence only
    wrong_pattern: str | None = None  # text only, as the others below
    right_pattern: str | None = None
    max_new_tokens: int | None = None

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
        self._check_text()
        return self

    @model_serializer(mode="wrap")
    def _written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What only text failures have is written for them alone, so that all others are written as ever."""
        written: dict[str, Any] = dump(self)
        if self.kind != "text":
            for name in ("wrong_pattern", "right_pattern", "max_new_tokens"):
                written.pop(name, None)
        return written

    def _check_text(self) -> None:
        patterns = [pattern for pattern in (self.wrong_pattern, self.right_pattern) if pattern is not None]
        if self.kind != "text":
            if patterns or self.max_new_tokens is not None:
                raise ValueError("patterns and max_new_tokens belong to text failures")
            return
        if not patterns or self.max_new_tokens is None:
            raise ValueError("a text failure needs a wrong or a right pattern, and max_new_tokens")
        if self.wrong or self.right or self.position != -1:
            raise ValueError("a text failure has patterns, no answers and no position")
        if not 1 <= self.max_new_tokens <= MAX_NEW_TOKENS:
            raise ValueError(f"max_new_tokens must be from 1 to {MAX_NEW_TOKENS:,}")
        for pattern in patterns:
            _check_pattern(pattern)

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

    @staticmethod
    def text(wrong: str | None = None, right: str | None = None, *, max_new_tokens: int = 32) -> Failure:
        """The model's greedy continuation says something wrong.

        Args:
            wrong: regular expression; the continuation fails where it is found. Without it, where `right` is not found.
            right: regular expression of what a right continuation holds; without it only a reference's continuation
                is known to be right.
            max_new_tokens: at most so many tokens are generated; an end token ends earlier.
        """
        return Failure(kind="text", wrong_pattern=wrong, right_pattern=right, max_new_tokens=max_new_tokens)

    def with_answers(self, wrong: Sequence[int] | None, right: Sequence[int] | None) -> Failure:
        """The predicate for one sample, with that sample's own answers where it has them."""
        if wrong is None and right is None:
            return self
        if self.kind == "text":
            raise OutputError(
                "a sample has answers of its own, which are tokens, and a 'text' failure is judged by its patterns",
                cure="Leave out the samples' answers, or record a token failure",
            )
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
                predicate has neither wrong nor right answers; `divergence` without a reference; `text`.
        """
        values: npt.NDArray[np.float64] = np.asarray(logits, dtype=np.float64)
        self._refuse_text()
        finite = np.isfinite(values)
        if self.kind == "nonfinite":
            return float(1.0 - finite.mean())
        if not finite.all():
            raise OutputError(
                f"{int((~finite).sum())} of {values.size} logits are NaN or Inf, "
                f"so a '{self.kind}' failure cannot be judged",
                cure="Record the incident with Failure.nonfinite() if that is the failure",
            )
        return self._finite_score(values, reference)

    def outcome(self, logits: Logits, reference: Logits | None = None) -> Outcome:
        """`failed`; `fixed` when the failure is gone and the answer is the right one; else `suppressed`.

        The right answer is one of `right`, or without these what the reference model answers. Where neither is
        known, an output that no longer fails is `suppressed`: nothing shows that it is right.
        """
        return self.judge(logits, reference)[1]

    def judge(self, logits: Logits, reference: Logits | None = None) -> tuple[float, Outcome]:
        """Score and outcome of the output of an intervention, which may have broken it: then the score is infinite.

        Raises:
            OutputError: as `score`, but for NaN and Inf.
        """
        self._refuse_text()
        values: npt.NDArray[np.float64] = np.asarray(logits, dtype=np.float64)
        if self.kind == "nonfinite":
            score = self.score(values)
        elif not np.isfinite(values).all():
            return float("inf"), "suppressed"  # an intervention that breaks the output has not fixed it
        else:
            score = self._finite_score(values, reference)
        return score, "failed" if score > 0 else self._rightness(int(np.argmax(values)), reference)

    def _rightness(self, answer: int, reference: Logits | None) -> Outcome:
        if self.right:
            return "fixed" if answer in self.right else "suppressed"
        if reference is not None and np.isfinite(reference).all():
            return "fixed" if answer == int(np.argmax(reference)) else "suppressed"
        return "suppressed"

    def text_fails(self, text: str) -> bool:
        """Whether a continuation fails; of `text` failures.

        Raises:
            OutputError: a pattern takes too long.
        """
        if self.wrong_pattern is not None:
            return _found(self.wrong_pattern, text)
        assert self.right_pattern is not None, "a text failure has a pattern"
        return not _found(self.right_pattern, text)

    def text_outcome(self, text: str, *, is_reference: bool) -> Outcome:
        """As `outcome`, of a continuation: the right pattern says what is right, without one the reference does.

        Args:
            is_reference: it is, token for token, what a healthy run generates; false where that is not known.
        """
        if self.text_fails(text):
            return "failed"
        right = is_reference if self.right_pattern is None else _found(self.right_pattern, text)
        return "fixed" if right else "suppressed"

    def in_words(self) -> str:
        """One line for people."""
        where = "the last token" if self.position == -1 else f"token {self.position}"
        if self.kind == "nonfinite":
            return f"NaN or Inf in the output at {where}"
        if self.kind == "divergence":
            return f"output at {where} more than {self.threshold_bits:g} bits (KL) from the reference model's"
        if self.kind == "text":
            wrong = f"/{self.wrong_pattern}/" if self.wrong_pattern is not None else "no right answer"
            right = f" instead of /{self.right_pattern}/" if self.right_pattern is not None else ""
            return f"{wrong}{right} in the first {self.max_new_tokens} generated tokens"
        noun = "token" if self.kind == "token" else "label"
        wrong = f"{noun} {', '.join(map(str, self.wrong))}" if self.wrong else f"another {noun}"
        right = f"{noun} {', '.join(map(str, self.right))}" if self.right else "each sample's right answer"
        return f"{wrong} instead of {right}" + (f" at {where}" if self.kind == "token" else "")

    def _refuse_text(self) -> None:
        if self.kind == "text":
            raise OutputError("a 'text' failure is judged on a continuation, not on logits", cure="Use text_fails")

    def _finite_score(self, logits: npt.NDArray[np.float64], reference: Logits | None) -> float:
        return self._divergence(logits, reference) if self.kind == "divergence" else self._margin(logits)

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
        for listed in (self.wrong, self.right):
            if len(set(listed)) == logits.size:
                raise OutputError(
                    "every output is listed as wrong, or as right", cure="Leave at least one on each side"
                )
        return _best(logits, self.wrong, self.right) - _best(logits, self.right, self.wrong)

    def _divergence(self, logits: npt.NDArray[np.float64], reference: Logits | None) -> float:
        assert self.threshold_bits is not None
        if reference is None:
            raise OutputError(
                "a 'divergence' failure needs the reference model's output",
                cure="Pass --donor-model, or record `reference_logits` with each sample",
            )
        return kl_bits(np.asarray(reference, dtype=np.float64), logits) - self.threshold_bits


def _best(logits: npt.NDArray[np.float64], listed: Sequence[int], others: Sequence[int]) -> float:
    """The best of the listed logits; where none are listed, of all but the others."""
    if listed:
        return float(logits[list(listed)].max())
    rest = logits.copy()
    rest[list(others)] = -np.inf
    return float(rest.max())


def _check_pattern(pattern: str) -> None:
    import regex  # noqa: PLC0415  (only text failures need it)

    if not pattern or len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN:,} characters")
    if len(pattern) * _copies(pattern) > MAX_COMPILED:
        raise ValueError("a pattern repeats too often, such as {1000} inside {1000}")
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError) as error:  # without the pattern: it may be private
        raise ValueError(f"a pattern is no regular expression, or too deep: {error}") from error


def _copies(pattern: str) -> int:
    """How often a part of the pattern is written out at most: its largest counts, as many as could be nested."""
    counts = sorted((max(1, int(count)) for count in re.findall(r"\{\s*([0-9]+)", pattern)), reverse=True)
    return math.prod(counts[: 1 + pattern.count(")")])


def _found(pattern: str, text: str) -> bool:
    import regex  # noqa: PLC0415  (only text failures need it)

    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError as error:
        raise OutputError(
            f"a pattern of {len(pattern):,} characters takes over {PATTERN_SECONDS:g} s on {len(text):,} characters",
            cure="Write it without repetitions inside repetitions",
        ) from error


def kl_bits(reference: Logits, logits: Logits) -> float:
    """KL(softmax(reference) ‖ softmax(logits)) in bits; both [classes] and finite."""
    p = log_softmax(reference)
    q = log_softmax(logits)
    return float(max(0.0, np.sum(np.exp(p) * (p - q)) / np.log(2)))


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
