"""The tables of docs/zoo.md and the README, from the document that `score` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.cf_evaluation.tables import table
from bench.zoo.plan import SPLITS

Summary = Mapping[str, Any]
ABSENT = "–"


@dataclass(frozen=True)
class Bar:
    """One measure that the zoo asks for.

    Attributes:
        value: of a summary; None where nothing was measured.
        at_least, goal: bounds; `above` says on which side of them the value should be.
        shown: how the value is written.
    """

    name: str
    value: Callable[[Summary], float | None]
    at_least: float
    goal: float
    above: bool
    shown: Callable[[Summary], str]
    strictly: bool = False

    def reached(self, summary: Summary, bound: float) -> bool | None:
        value = self.value(summary)
        if value is None:
            return None
        if self.strictly:
            return value > bound if self.above else value < bound
        return value >= bound if self.above else value <= bound


def _rate(name: str) -> Callable[[Summary], float | None]:
    def rate(summary: Summary) -> float | None:
        share = summary["shares"][name]
        return share["hits"] / share["of"] if share["of"] else None

    return rate


def share_text(share: Mapping[str, Any]) -> str:
    """`93 % (41 of 44; 81 to 99)`."""
    if not share["of"]:
        return ABSENT
    rate, low, high = (100 * value for value in (share["hits"] / share["of"], share["low"], share["high"]))
    return f"{rate:.0f} % ({share['hits']} of {share['of']}; {low:.0f} to {high:.0f})"


def _share_bar(name: str, measure: str, at_least: float, goal: float, *, above: bool = True) -> Bar:
    return Bar(name, _rate(measure), at_least, goal, above, lambda summary: share_text(summary["shares"][measure]))


def _median_bar(name: str, key: str, at_least: float, goal: float, shown: str) -> Bar:
    def text(summary: Summary) -> str:
        if summary[key] is None:
            return ABSENT
        return f"{shown.format(summary[key])}{_between(summary['intervals'][key], shown)}"

    return Bar(name, lambda summary: summary[key], at_least, goal, above=False, shown=text)


def _calibration_bar(name: str, key: str, at_least: float, goal: float, *, above: bool, strictly: bool = False) -> Bar:
    def value(summary: Summary) -> float | None:
        found = summary["calibration"]
        return None if found is None else found[key]

    def text(summary: Summary) -> str:
        measured = value(summary)
        if measured is None:
            return ABSENT
        found = summary["calibration"]
        wrong = f"{found['causes'] - found['right']} of {found['causes']} wrong"
        return f"{measured:.3f}{_between(found['intervals'][key], '{:.3f}', wrong)}"

    return Bar(name, value, at_least, goal, above, text, strictly)


def _between(interval: Sequence[float] | None, shown: str, *before: str) -> str:
    """` (6 of 113 wrong; 0.93 to 1.00)`; the unit, which the value has, is not repeated."""
    said = [*before]
    if interval is not None:
        said.append(" to ".join(shown.format(bound).removesuffix(" s").removesuffix("%") for bound in interval))
    return f" ({'; '.join(said)})" if said else ""


BARS = (
    _share_bar("a sufficient fix set found where one exists", "sufficient fix found", 0.90, 0.99),
    _share_bar("cause named, with a reference model", "cause named, with a reference model", 0.90, 0.98),
    _share_bar("cause named, without", "cause named, without", 0.65, 0.85),
    _share_bar("onset names the damaged layer", "onset: layer", 0.80, 0.95),
    _median_bar("benign outputs changed by the fix, median", "changed", 0.01, 0.001, "{:.1%}"),
    _share_bar("false alarms on healthy incidents", "false alarms", 0.05, 0.01, above=False),
    _calibration_bar("`confidence`: expected calibration error", "error", 0.10, 0.05, above=False),
    _calibration_bar("`confidence`: AUROC, right against wrong", "auroc", 0.80, 0.90, above=True),
    _calibration_bar(
        "`confidence`: Brier score over that of the base rate", "brier_ratio", 1.0, 1.0, above=False, strictly=True
    ),
    _median_bar("time an incident, median", "seconds", 15.0, 5.0, "{:.1f} s"),
)


BESIDE = {
    "cause named, without": (
        "or what restores, with a reference model",
        "or what restores, without",
        "layer named",
    ),
    "onset names the damaged layer": (
        "onset: site",
        "onset: site among the first three",
        "strongest: site",
        "strongest: site among the first three",
    ),
}
"""Measures without a bound that are told below one with it."""


def bar_table(summaries: Mapping[str, Summary]) -> str:
    """The bars, for each split that was run."""
    splits = [name for name in SPLITS if name in summaries]
    rows = []
    for bar in BARS:
        cells = [f"{bar.shown(summaries[split])} {_mark(bar, summaries[split])}".strip() for split in splits]
        rows.append([bar.name, *cells, _bound(bar, bar.at_least), _bound(bar, bar.goal)])
        for measure in BESIDE.get(bar.name, ()):
            rows.append(
                [f"– {measure}", *(share_text(summaries[split]["shares"][measure]) for split in splits), "", ""]
            )
    return table(["measure", *splits, "at least", "goal"], rows)


def _mark(bar: Bar, summary: Summary) -> str:
    reached = bar.reached(summary, bar.at_least)
    return "" if reached is None else "✓" if reached else "✗"


def _bound(bar: Bar, bound: float) -> str:
    sign = (">" if bar.above else "<") if bar.strictly else ("≥" if bar.above else "≤")
    if bound > 1:
        return f"{sign} {bound:g} s"
    if "confidence" in bar.name:
        return f"{sign} {bound:.2f}"
    return f"{sign} {100 * bound:g} %"


def kind_table(summaries: Mapping[str, Summary], incidents: Sequence[Mapping[str, Any]]) -> str:
    """Each kind: what was named, where it began, what a fix changes, how long it took."""
    families = {one["kind"]: one["family"] for one in incidents}
    rows = []
    for name in sorted(families, key=lambda kind: (families[kind], kind)):
        summary = summaries[f"kind: {name}"]
        shares = summary["shares"]
        rows.append(
            [
                name,
                families[name],
                str(summary["incidents"]),
                *(_short(shares[measure]) for measure in (
                    "sufficient fix found", "cause named", "layer named", "onset: layer", "onset: site",
                    "strongest: site", "strongest: site among the first three", "false alarms",
                )),
                _confidence(summary["confidence"]),
                ABSENT if summary["changed"] is None else f"{summary['changed']:.1%}",
                f"{summary['seconds']:.1f} s",
                ABSENT if summary["forwards"] is None else f"{summary['forwards']:,.0f}",
            ]
        )  # fmt: skip
    head = [
        "kind", "family", "incidents", "fix found", "cause named", "layer named", "onset: layer", "onset: site",
        "strongest: site", "among three", "false alarms", "confidence, right", "benign changed", "time", "forwards",
    ]  # fmt: skip
    return table(head, rows)


def rival_table(summaries: Mapping[str, Summary]) -> str:
    """The damaged component in the first place: the tool's set, and what one would otherwise reach for."""
    measures = {
        "the tool: cause named": "cause named",
        "the tool: strongest site": "strongest: site",
        "zlib, z-score of bits a value": "zlib: site",
        "Mahalanobis distance": "mahalanobis: site",
        "every site patched alone": "single patches: site",
        "gradient × change": "gradient: site",
        "change of weights": "weights: site",
    }
    splits = [name for name in SPLITS if name in summaries]
    rows = [
        [name, *(share_text(summaries[split]["shares"][measure]) for split in splits)]
        for name, measure in measures.items()
    ]
    return table(["what ranks first", *splits], rows)


def _short(share: Mapping[str, Any]) -> str:
    if not share["of"]:
        return ABSENT
    return f"{share['hits']} of {share['of']} ({100 * share['low']:.0f}–{100 * share['high']:.0f})"


def _confidence(found: Mapping[str, Any] | None) -> str:
    """`0.83, 9 of 10`: the mean, and how many of the reported causes are right."""
    return ABSENT if found is None else f"{found['mean']:.2f}, {found['right']} of {found['of']}"


def scored_on(document: Mapping[str, Any]) -> str:
    """Day, commits that ran, and machine, below the table."""
    described = document["machine"]
    ran = ", ".join(commit[:12] for commit in document["commits"])
    return (
        f"{document['date']}, commit {ran}; {described['cpu']}, {described['cores']} cores; "
        f"torch {described['libraries']['torch']}. {document['not_run']} of the zoo's incidents were not run."
    )


def noise_text(summaries: Mapping[str, Summary]) -> str:
    """How far noise and damage move activations, which the tool's threshold of noise lies between."""
    noise, damage = summaries["all"]["noise"], summaries["all"]["damage"]
    if noise is None or damage is None:
        return "Not measured."
    return (
        f"The healthy network's activations are at most {noise:.1%} of a usual row's length from the incident's where "
        f"only weights were rounded, and at least {damage:.1%} where something is damaged."
    )


def blocks(document: Mapping[str, Any]) -> dict[str, str]:
    """Name of a marker → the text that belongs there."""
    summaries = document["summaries"]
    return {
        "zoo bars": f"{bar_table(summaries)}\n\n{scored_on(document)}",
        "zoo kinds": kind_table(summaries, document["incidents"]),
        "zoo rivals": rival_table(summaries),
        "zoo noise": noise_text(summaries),
    }
