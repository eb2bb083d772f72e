"""What a fix set writes and what it makes of the incident's samples: all that an exported fix is made and checked from.

Arrays are NumPy; bfloat16 comes widened to float32, which holds it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model_forensics.types.causal import FixSet, Intervention


@dataclass(frozen=True)
class WrittenSite:
    """One intervention of a fix set, with the values that it writes.

    Attributes:
        module: path of the module whose tensor is replaced, and whether it is what enters or what leaves it.
        start, stop: slice of the tensor's last dimension; None for all of it.
        constant: [features], written at every token of whatever input; None where it depends on the input.
        rows: where it does, per sample of `FixedRuns`: [tokens, features], padding removed. Of a text they belong to
            the prompt and the first tokens of `Told.donor`.
    """

    intervention: Intervention
    module: str
    side: Literal["input", "output"]
    start: int | None
    stop: int | None
    constant: npt.NDArray[Any] | None
    rows: tuple[npt.NDArray[Any], ...] | None


@dataclass(frozen=True)
class Told:
    """What a model says behind one prompt, greedily; of failures of kind `text`.

    Attributes:
        prompt: its tokens.
        failed, fixed: generated tokens without and with the set, an end token included.
        donor: generated tokens of the donor; () where it ran on the prompt alone, or none did.
    """

    prompt: tuple[int, ...]
    failed: tuple[int, ...]
    fixed: tuple[int, ...]
    donor: tuple[int, ...]


@dataclass(frozen=True)
class FixedRun:
    """One failing sample, run alone with the fix set applied by plain hooks.

    Attributes:
        inputs: the model's keyword inputs, a batch of one row, padded as recorded; of a text the prompt, and what the
            failed and the donor's continuation begin with alike.
        failed, fixed: [classes] float64 at the scored position, without and with the set.
        told: None unless the failure is a text.
    """

    sample_id: str
    inputs: Mapping[str, npt.NDArray[Any]]
    failed: npt.NDArray[np.float64]
    fixed: npt.NDArray[np.float64]
    told: Told | None = None


@dataclass(frozen=True)
class FixedRuns:
    """A fix set in action.

    Attributes:
        position: which of a sample's own tokens is scored, from the end where negative.
        tolerance: largest |difference| ÷ largest |logit| at which two runs count as equal.
        longest, ends: of a text: most tokens that are generated, and those that end it.
    """

    fix_set: FixSet
    bundle_id: str
    sites: tuple[WrittenSite, ...]
    runs: tuple[FixedRun, ...]
    position: int
    tolerance: float
    longest: int = 0
    ends: tuple[int, ...] = ()
