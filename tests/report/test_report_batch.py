"""The page of a batch: what it says, what it cuts, and that strangers' names stay text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from model_forensics.report import render_batch_html
from model_forensics.types import BatchSummary, Durations, IncidentFailure, IncidentGroup

HOSTILE = '"><script>alert(1)</script>\u202e../\x1b[31m'


def group(key: str = "L3.mlp", kind: Any = "cause", count: int = 1, **changes: Any) -> IncidentGroup:
    values = {"anomaly_score": (0.8, 0.9), "confidence": None, "flip_rate": (1.0, 1.0), "incidents": ("a b ä",)}
    return IncidentGroup(kind=kind, key=key, count=count, **(values | changes))


def summary(**changes: Any) -> BatchSummary:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    values: dict[str, Any] = {
        "directory": "/bundles",
        "output": "/out",
        "started_at": moment,
        "finished_at": moment,
        "workers": 2,
        "workers_reason": "as asked for",
        "counts": {"done": 3, "refused": 1},
        "verdicts": {"cause_found": 3},
        "groups": (group(count=3),),
        "failures": (),
        "durations": Durations(total=6.0, median=2.0, p95=3.0, longest=3.0),
        "settings": {"baseline": None, "model": "m"},
    }
    return BatchSummary(**(values | changes))


def test_it_says_what_was_found():
    page = render_batch_html(summary())
    assert "3 incidents analysed" in page
    assert "the largest has 3 incidents: L3.mlp" in page
    assert 'href="results/a%20b%20%C3%A4.json"' in page


def test_nothing_was_found():
    page = render_batch_html(summary(counts={"refused": 2}, verdicts={}, groups=(), durations=None))
    assert "No incident has a result" in page
    assert "0 incidents analysed" in page


def test_every_verdict_and_kind_has_words():
    verdicts = ["cause_found", "workaround_found", "no_fix_found", "not_reproduced", "anomaly_located"]
    verdicts += ["nothing_anomalous", "not_judged"]
    groups = (*(group(verdict, "unexplained") for verdict in verdicts), group("L1.attn", "signature"))
    page = render_batch_html(summary(verdicts=dict.fromkeys(verdicts, 1), groups=groups))
    assert "no cause; departs at L1.attn" in page
    assert not any(verdict in page for verdict in verdicts)


def test_strangers_names_stay_text():
    failure = IncidentFailure(incident=HOSTILE, state="poisoned", error=HOSTILE)
    page = render_batch_html(
        summary(
            directory=HOSTILE,
            groups=(group(HOSTILE, incidents=(HOSTILE,)),),
            failures=(failure,),
            settings={HOSTILE: HOSTILE},
        )
    )
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert 'href="results/%22%3E' in page


def test_long_lists_are_cut_and_the_page_says_so():
    groups = tuple(group(f"L{number}.mlp", count=20) for number in range(150))
    failures = tuple(IncidentFailure(incident=f"i{number}", state="refused", error="odd") for number in range(100_000))
    page = render_batch_html(summary(groups=groups, failures=failures))
    assert "50 smaller ones are in summary.json" in page
    assert "99,800 more are in summary.json" in page
    assert len(page) < 300_000
