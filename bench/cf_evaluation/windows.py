"""A fault in a span of tokens and channels of one site: does the worst window lie on it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.cf_evaluation.calibration import baselines_of
from bench.cf_evaluation.networks import Network
from bench.cf_evaluation.plan import CONFIG, Plan
from model_forensics.bundle.memory import MemoryRecording
from model_forensics.cf import analyze
from model_forensics.types import Window

TOKENS = (2, 6, 16)
CHANNEL_SHARES = (0.05, 0.15, 0.4)
SHORTEST = 20  # tokens of a recording that faults are planted into
BASELINE_GROUPS = 100

Span = tuple[slice, slice]
SpanFault = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]  # part, whole site, → part


def _permuted(part: np.ndarray, _whole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Channels of the span in another order, the same for all of its tokens."""
    return part[:, rng.permutation(part.shape[1])]


def _noise(part: np.ndarray, whole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One standard deviation of the site."""
    return (part + whole.std() * rng.standard_normal(part.shape)).astype(np.float32)


SPAN_FAULTS: dict[str, SpanFault] = {
    "scaled": lambda part, _whole, _rng: part * np.float32(3),
    "noise": _noise,
    "zeroed": lambda part, _whole, _rng: np.zeros_like(part),
    "stuck": lambda part, _whole, _rng: np.repeat(part[:1], len(part), axis=0),
    "flipped": lambda part, _whole, _rng: -part,
    "permuted": _permuted,
}


def overlap(window: Window, span: Span) -> float:
    """Intersection over union of a window and the planted span, in token × channel cells."""
    tokens = _common(window.token_start, window.token_stop, span[0])
    channels = _common(window.channel_start, window.channel_stop, span[1])
    inside = tokens * channels
    size = (window.token_stop - window.token_start) * (window.channel_stop - window.channel_start)
    truth = (span[0].stop - span[0].start) * (span[1].stop - span[1].start)
    return inside / (size + truth - inside)


def _common(start: int, stop: int, span: slice) -> int:
    return max(0, min(stop, span.stop) - max(start, span.start))


def measure(network: Network, plan: Plan, faults: Mapping[str, SpanFault]) -> list[dict[str, Any]]:
    """One row for every planted span."""
    size = min(BASELINE_GROUPS, len(network.pool))
    baseline = baselines_of([network.record([p], f"pool{n}") for n, p in enumerate(network.pool[:size])], size, 1)[0]
    tested = [network.record([prompt], f"tested{n}") for n, prompt in enumerate(network.tested)]
    long = [recording for recording in tested if recording.samples[0].tokens >= SHORTEST]
    sites = [info.name for info in baseline.sites if info.kind in ("attn", "mlp", "resid")]
    rng = np.random.default_rng(0)
    rows = []
    for name, fault in faults.items():
        for tokens in TOKENS:
            for share in CHANNEL_SHARES:
                for _ in range(plan.windows):
                    recording = long[int(rng.integers(len(long)))]
                    site = sites[int(rng.integers(len(sites)))]
                    broken, span = plant(recording, site, tokens, share, fault, rng)
                    result = analyze(broken, baseline, CONFIG)
                    metric = next(row for row in result.metrics if row.site == site)
                    found = [overlap(window, span) for window in metric.worst_windows]
                    rows.append({
                        "network": network.name, "fault": name, "tokens": tokens, "channel_share": share, "site": site,
                        "flagged": metric.is_anomalous, "shown": bool(found),
                        "iou": found[0] if found else 0.0, "best_iou": max(found, default=0.0),
                        "span": [span[0].start, span[0].stop, span[1].start, span[1].stop],
                        "windows": [_corners(window) for window in metric.worst_windows],
                    })  # fmt: skip
    return rows


def _corners(window: Window) -> list[int]:
    """First and past-the-last token, first and past-the-last channel."""
    return [window.token_start, window.token_stop, window.channel_start, window.channel_stop]


def plant(
    recording: MemoryRecording, site: str, tokens: int, share: float, fault: SpanFault, rng: np.random.Generator
) -> tuple[MemoryRecording, Span]:
    """A copy with the fault in a random span that leaves the first token alone; and the span."""
    whole = np.asarray(recording.activation(site, 0))
    width = max(2, round(share * whole.shape[1]))
    token = int(rng.integers(1, len(whole) - tokens + 1))
    channel = int(rng.integers(0, whole.shape[1] - width + 1))
    span = slice(token, token + tokens), slice(channel, channel + width)
    broken = whole.copy()
    broken[span] = fault(whole[span], whole, rng)
    activations = {name: [broken] if name == site else list(values) for name, values in recording.activations.items()}
    return MemoryRecording(recording.samples, recording.sites, activations, model=recording.model), span
