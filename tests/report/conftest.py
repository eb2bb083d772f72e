"""Synthetic results documents: realistic, empty, huge and hostile ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from model_forensics.types import (
    AnalysisResult,
    BundleSummary,
    Certificate,
    CopyCheck,
    Donor,
    Environment,
    Evidence,
    Execution,
    Finer,
    FixSet,
    Integrity,
    Interval,
    Intervention,
    MethodScore,
    ModelReference,
    Onset,
    Replay,
    Reversal,
    SearchSpent,
    Shams,
    Shuffled,
    SideEffects,
    SiteMetrics,
    Verdict,
    VersionDifference,
    Window,
)

sys.path.insert(0, str(Path(__file__).parent))  # pages

VERDICTS = get_args(Verdict)
REFERENCE = Donor(kind="reference_model", source="models/intact", weights_digest="sha256:" + "b" * 64, same_input=True)


def environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {
        "model_forensics": "0.1.0",
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64",
        "numpy": "2.4.0",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "device": "cpu",
        "threads": 2,
        "backends": {"entropy_windows": "cpp", "histogram": "cpp", "quantize": "cpp", "codelength": "numba"},
        "seed": 0,
        "configuration": {"modules": {"cf": {"anomaly_threshold": 2.0, "entropy_window": 256}}},
        "model_source": "models/damaged",
        "model_factory": None,
        "weights_digest": "sha256:" + "a" * 64,
        "donor_source": "models/intact",
        "incident_path": "bundles/inc-001",
        "baseline_path": "bundles/benign",
    }
    return Environment(**(values | changes))


def bare_environment() -> Environment:
    nothing = dict.fromkeys(
        (
            "torch",
            "transformers",
            "device",
            "threads",
            "model_source",
            "weights_digest",
            "donor_source",
            "incident_path",
            "baseline_path",
        )
    )
    return environment(backends={}, configuration={}, **nothing)


def site_names(layers: int) -> list[str]:
    names = ["embed"]
    for layer in range(layers):
        names += [f"L{layer}.attn", f"L{layer}.mlp", f"L{layer}.resid"]
    return [*names, "final_norm", "logits"]


def metrics(
    names: list[str],
    tokens: int,
    *,
    cause: str | None = None,
    judged: bool = True,
    profiles: bool = True,
) -> tuple[SiteMetrics, ...]:
    """Noise everywhere; from `cause` on, downstream sites depart with decreasing strength."""
    generator = np.random.default_rng(0)
    rows = []
    start = names.index(cause) if cause in names else len(names)
    for place, name in enumerate(names):
        distance = place - start
        strength = 0.0 if distance < 0 else 5.2 * 0.9**distance
        score = float(generator.normal(0, 0.7) + strength)
        layer = int(name[1:].split(".")[0]) if name.startswith("L") and "." in name else None
        kind = name.rsplit(".", maxsplit=1)[-1] if layer is not None else name
        kind = kind if kind in {"embed", "attn", "mlp", "resid", "final_norm", "logits"} else "module"
        excess = generator.normal(0, 0.02, tokens) + (strength * 0.3) * (np.arange(tokens) >= tokens // 3)
        windows = 3.1 + 0.1 * generator.standard_normal(400) - 0.15 * strength * (np.arange(400) > 150)
        p_value = float(min(1.0, 10 ** -(max(score, 0.0) ** 1.3 / 2)))
        rows.append(
            SiteMetrics(
                site=name,
                module=f"transformer.h.{layer}.mlp.c_proj" if kind == "mlp" else f"transformer.{name}",
                kind=kind,
                layer=layer,
                tokens=tokens,
                features=64,
                integrity=Integrity(
                    values=tokens * 64,
                    nan=0,
                    inf=0,
                    first_nonfinite=None,
                    all_zero=False,
                    zero_fraction=0.0,
                    constant_channels=0,
                    distinct_fraction=0.98,
                    low_mantissa_fraction=1.0,
                    saturated_fraction=0.0001,
                    flags=("low mantissa bits are zero: values look rounded to bfloat16",) if name == cause else (),
                ),
                anomaly_score=score if judged else None,
                p_value=p_value if judged else None,
                q_value_bh=min(1.0, p_value * 3) if judged else None,
                q_value_by=min(1.0, p_value * 9) if judged else None,
                is_anomalous=judged and score > 2,
                rank_score=abs(score) * 1.7,
                not_judged=None if judged else "insufficient baseline: 3 groups, at least 5 are needed",
                methods={
                    "zlib": MethodScore(bits=29.4, baseline_bits=29.3, sigma=0.4, p_value=0.3),
                    "arithmetic": MethodScore(bits=4.4, baseline_bits=3.9, sigma=score, p_value=p_value),
                },
                worst_windows=(
                    Window(
                        sample=0, token_start=3, token_stop=7, channel_start=0, channel_stop=16, bits=7.0, sigma=4.0
                    ),
                ),
                token_profile=tuple(excess.tolist()) if profiles else None,
                entropy_profile=tuple(windows.tolist()) if strength > 2.5 else None,
            )
        )
    return tuple(rows)


def a_fix(site: str = "L2.mlp", **changes: Any) -> FixSet:
    values: dict[str, Any] = {
        "interventions": (Intervention(site=site, kind="patch", donor=REFERENCE),),
        "label": "cause",
        "sufficient": True,
        "flips": 12,
        "samples": 12,
        "groups": 12,
        "flip_rate": 1.0,
        "flip_interval": Interval(low=0.735, high=1.0),
        "suppressed": 0,
        "in_sample": False,
        "recovery": 0.998,
        "explained_away": 1.0,
        "necessity": (1.0,),
        "side_effects": SideEffects(
            samples=40,
            changed=0,
            changed_without_fix=1,
            changed_rate=0.0,
            interval=Interval(low=0.0, high=0.088),
            kl_mean_bits=0.0021,
            kl_max_bits=0.034,
        ),
        "minimality": "cardinality",
        "bits_replaced": 49152.0,
        "certificate": Certificate(candidates=24, exhausted=1, forwards=900),
        "finer": Finer(
            interventions=(Intervention(site="L2.neuron64-79", kind="patch", donor=REFERENCE, positions=(3,)),),
            flip_rate=1.0,
            samples=12,
            recovery=0.99,
            bits_replaced=1024.0,
        ),
        "copy_check": CopyCheck(checks=24, copied=2, upstream_flip_rate=None),
        "shams": Shams(
            sets=8,
            sufficient=1,
            interval=Interval(low=0.003, high=0.527),
            flip_rate=0.19,
            highest_flip_rate=1.0,
            layer_distance=2,
            bits_ratio=2.0,
        ),
        "reversal": Reversal(samples=12, failures=11, interval=Interval(low=0.62, high=0.998)),
        "shuffled": Shuffled(repeats=19, as_good=0, p_value=0.05),
    }
    return FixSet(**(values | changes))


ONLY_OF_THE_FIX_SET = ("finer", "shams", "reversal", "shuffled")


def a_workaround(**changes: Any) -> FixSet:
    return a_fix(
        **{
            "interventions": (
                Intervention(site="L3.attn", kind="zero"),
                Intervention(
                    site="L1.attn",
                    kind="mean",
                    positions=(3, 4, 7),
                    donor=Donor(kind="benign_mean", source="bundles/benign", same_input=False),
                ),
            ),
            "label": "workaround",
            "flips": 10,
            "flip_rate": 10 / 12,
            "suppressed": 1,
            "recovery": 0.31,
            "flip_interval": Interval(low=0.516, high=0.979),
            "explained_away": 0.1,
            "necessity": (0.5, 0.25),
            "minimality": "local",
            "groups": 4,
            **dict.fromkeys(ONLY_OF_THE_FIX_SET),
        }
        | changes
    )


def a_result(verdict: str = "cause_found", *, layers: int = 4, tokens: int = 24, bare: bool = False) -> AnalysisResult:
    """A realistic result of this verdict; `bare`: everything that may be null is null."""
    names = site_names(layers)
    cause = "L2.mlp" if verdict not in {"nothing_anomalous", "not_judged"} else None
    judged = verdict != "not_judged" and not bare
    rows = metrics(names, tokens, cause=cause, judged=judged, profiles=not bare)
    if bare:
        rows = tuple(
            row.model_copy(
                update={
                    "rank_score": None,
                    "methods": {},
                    "worst_windows": (),
                    "entropy_profile": None,
                    "not_judged": None,
                    "layer": None,
                    "is_anomalous": False,
                    "integrity": row.integrity.model_copy(
                        update={
                            "constant_channels": None,
                            "distinct_fraction": None,
                            "low_mantissa_fraction": None,
                            "saturated_fraction": None,
                        }
                    ),
                }
            )
            for row in rows
        )
    with_model = verdict in {"cause_found", "workaround_found", "no_fix_found", "not_reproduced"}
    nothing = ("recovery", "explained_away", "side_effects", "bits_replaced", "certificate", "copy_check")
    unmeasured = dict.fromkeys((*nothing, *ONLY_OF_THE_FIX_SET))
    changes: dict[str, Any] = {**unmeasured, "necessity": (), "in_sample": True} if bare else {}
    onset = Onset(site="L2.mlp", p_value=3e-7, sigma=5.1) if judged and cause else None
    strongest = Onset(site="L2.resid", p_value=2e-7, sigma=5.3) if judged and cause else None
    replay = Replay(
        reproduced=True,
        bit_identical=not bare,
        max_error=0.0 if not bare else 3.1e-6,
        samples=12,
        failing=0 if verdict == "not_reproduced" else 12,
    )
    searched = verdict in {"cause_found", "workaround_found", "no_fix_found"}
    spent = SearchSpent(
        strategy="greedy",
        pool=tuple(name for name in names if name.endswith(("attn", "mlp"))),
        forwards=1234,
        combinations=77,
        self_check_max_error=2.4e-7,
        timed_out=verdict == "no_fix_found",
        seed=0,
        execution=Execution(
            from_middle=True,
            reason=None,
            rows_from_middle=1100,
            max_batch_rows=64,
            memory_limit=2 << 30,
            halvings=0,
        ),
        left_out=5,
        attribution_agreement=0.83,
    )
    workaround = a_workaround(**changes)
    return AnalysisResult(
        bundle_id="inc-001",
        verdict=verdict,
        confidence=0.93 if verdict == "cause_found" and not bare else None,
        execution_time=7.345678901234567,
        anomaly_score=None if not judged else (0.94 if cause else 0.21),
        anomaly_p_value=None if not judged else (1.2e-6 if cause else 0.31),
        compression_metrics=rows,
        onset=onset,
        strongest=strongest,
        fix_set=a_fix(**changes) if verdict == "cause_found" else workaround if verdict == "workaround_found" else None,
        alternatives=(a_fix("L3.mlp", flips=11, flip_rate=11 / 12, recovery=0.92),)
        if verdict == "cause_found" and not bare
        else (),
        workarounds=(workaround,) if verdict in {"cause_found", "workaround_found"} and not bare else (),
        evidence=Evidence(
            replay=replay if with_model else None,
            search=spent if searched and not bare else None,
            best_effect=a_fix(
                "L1.mlp",
                sufficient=False,
                flips=3,
                flip_rate=0.25,
                minimality="none",
                flip_interval=Interval(low=0.05, high=0.57),
            )
            if verdict == "no_fix_found"
            else None,
            onset_agrees=True if verdict == "cause_found" and not bare else None,
        ),
        version_difference=VersionDifference(
            recording_digest="sha256:" + "a" * 64,
            baseline_digest="sha256:" + "b" * 64,
            tensors=("transformer.h.2.mlp.c_proj.weight",),
            sites=None,
        )
        if with_model and not bare
        else None,
        incident=BundleSummary(
            path=None if bare else "bundles/inc-001",
            created_at=datetime(2026, 5, 4, 12, 30, tzinfo=UTC),
            samples=12,
            groups=12,
            tokens=12 * tokens,
            sites=len(names),
            bytes=None if bare else 1_234_567,
            model=None
            if bare
            else ModelReference(
                architecture="GPT2LMHeadModel",
                family="gpt2",
                layers=layers,
                width=64,
                source="models/damaged",
                weights_digest="sha256:" + "a" * 64,
            ),
            failure=None if bare else "token 17 instead of token 42 at the last token",
        ),
        environment=bare_environment() if bare else environment(),
        warnings=() if bare else ("The model's weights digest differs from the baseline's.",),
        export_path=None if bare else "results.json",
    )


@pytest.fixture
def make_result() -> Callable[..., AnalysisResult]:
    return a_result


@pytest.fixture
def large_result() -> AnalysisResult:
    """437 sites × 512 tokens."""
    layers = 145
    result = a_result(layers=layers, tokens=32)
    names = [*site_names(layers)[:436], "logits"]
    rows = metrics(names, 512, cause="L20.mlp")
    assert len(rows) == 437
    return result.model_copy(
        update={
            "compression_metrics": rows,
            "fix_set": a_fix("L20.mlp"),
            "onset": Onset(site="L20.mlp", p_value=3e-7, sigma=5.1),
            "strongest": Onset(site="L21.attn", p_value=2e-7, sigma=5.3),
        }
    )
