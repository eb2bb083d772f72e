"""Bits that symbols cost under static and adaptive models."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch, _planes

Reduce = Literal["channel", "token", "site"]


def codelength(
    symbols: npt.NDArray[np.uint8],
    cost: npt.NDArray[np.float32],
    *,
    reduce: Reduce = "channel",
    backend: str = "auto",
) -> npt.NDArray[np.float64]:
    """Bits that the symbols cost under a static model per channel: Σ cost[channel, symbol].

    Args:
        symbols: [tokens, channels] uint8, each below the alphabet of `cost`.
        cost: [channels, alphabet] float32, bits of each symbol; +Inf for an impossible one, no NaN.
        reduce: what remains after the sum: "channel", "token", or "site" for one number.
        backend: "auto" or the name of a backend.

    Returns:
        float64 bits, summed in float64: [channels], [tokens], or [] (no dimension).

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "codelength"
    choice = _dispatch.select(op, symbols, backend)
    checked: npt.NDArray[np.uint8] = _check.array(op, "symbols", symbols, np.uint8, 2)
    tokens, channels = checked.shape
    costs: npt.NDArray[np.float32] = _check.array(op, "cost", cost, np.float32, 2, (channels, None))
    alphabet = _check.integer(op, "the number of columns of cost", costs.shape[1], 1, 256)
    reduced = _check.choice(op, "reduce", reduce, ("channel", "token", "site"))
    _check.symbols_below(op, checked, alphabet)
    if not (costs > -np.inf).all():  # NaN compares false
        raise UsageError("cost holds NaN or -Inf", where=op, cure="Pass bits that are numbers, or +Inf")
    out = np.empty(tokens if reduced == "token" else channels, dtype=np.float64)
    if reduced == "token":
        choice.module.codelength_per_token(checked, costs, out)
    else:
        choice.module.codelength_per_channel(checked, costs, out)
    _dispatch.record(choice)
    return np.array(out.sum()) if reduced == "site" else out


def codelength_adaptive(
    symbols: npt.NDArray[np.uint8], *, alphabet: int, backend: str = "auto"
) -> npt.NDArray[np.float64]:
    """Bits that each channel costs under an adaptive model that starts knowing nothing.

    The Krichevsky–Trofimov estimator (1981): P(next = k) = (n_k + ½)/(n + alphabet/2). Its product over a sequence
    depends on the counts only, so the codelength is exact from the histogram:
    log2 Γ(n + A/2)/Γ(A/2) − Σ_k log2 Γ(n_k + ½)/Γ(½).

    Args:
        symbols: [tokens, channels] uint8, each below `alphabet`.
        alphabet: number of symbols A, 2 to 256.
        backend: "auto" or the name of a backend (it counts; the formula is evaluated in one place).

    Returns:
        [channels] float64 bits; 0 without tokens.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    counts = _planes.count("codelength_adaptive", symbols, alphabet, backend)
    tokens = symbols.shape[0]
    nats = gammaln(tokens + alphabet / 2) - gammaln(alphabet / 2)
    nats = nats - (gammaln(counts + 0.5) - gammaln(0.5)).sum(axis=1)
    bits: npt.NDArray[np.float64] = nats / np.log(2.0)
    return bits
