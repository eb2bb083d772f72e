"""The tables of docs/forensics.md, from the evaluation's JSON and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

OURS = "model-forensics"
SIZES = ("54", "20", "5 × 1")
COMPARATORS = ("zlib", "histogram", "mahalanobis", "knn")
BEGIN = "<!-- tables of `python -m bench cf_quality`: begin -->"
END = "<!-- tables of `python -m bench cf_quality`: end -->"
GOOD_OVERLAP = 0.3
TWO_SIGMA = 1  # position in `levels`

Row = dict[str, Any]


def render(outcome: dict[str, Any]) -> str:
    """Markdown of every part that was run; the kept-aside faults come last."""
    parts: list[str] = [_head(outcome)]
    if "real" in outcome:
        parts += _real(outcome["real"])
    if "calibration" in outcome:
        parts.append(_calibration(outcome["calibration"]))
    if "simulation" in outcome:
        parts.append(_simulation(outcome["simulation"]))
    if "windows" in outcome:
        parts += _windows(outcome["windows"])
    if "propagation" in outcome:
        parts += _propagation(outcome["propagation"])
    if "real_kept_aside" in outcome:
        parts += ["#### Faults kept aside", *_real(outcome["real_kept_aside"])]
    if "propagation_kept_aside" in outcome:
        parts += ["#### Damage kept aside", *_propagation(outcome["propagation_kept_aside"])]
    return "\n\n".join(parts)


def replace(page: str, text: str) -> str:
    """The page with `text` between the markers.

    Raises:
        ValueError: the page lacks a marker.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the tables")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(outcome: dict[str, Any]) -> str:
    environment = outcome["environment"]
    methods = ", ".join(environment["methods"])
    lines = [f"Methods: {methods}. Python {environment['python']}, torch {environment['torch']}."]
    lines += [f"`{name}`: {note}." for name, note in sorted(outcome.get("networks", {}).items())]
    spent = [f"{name} {seconds / 60:.0f}" for name, seconds in sorted(outcome.get("processor_seconds", {}).items())]
    lines.append(f"Minutes of processor time, one thread: {', '.join(spent)}.")
    if environment["quick"]:
        lines.append("**Quick run: too small to judge by.**")
    return "  \n".join(lines)


def _real(real: dict[str, Any]) -> list[str]:
    title = (
        f"Real recordings ({real['recordings']}; {real['folds']} folds by prompt, {real['sites']} sites, "
        f"{real['seeds']} seeds). Power: share of faulted sites at 2 σ or above. False positives: ours at 1 % and "
        "2.3 %, the others' above 2 σ."
    )
    summary = table(
        ["baseline", "method", "mean AUROC", "top-1", "top-5", "power", "false positives"],
        ([size, method, *_summary(real[size][method])] for size in SIZES for method in (OURS, *COMPARATORS)),
    )
    faults = real[SIZES[0]][OURS]["faults"]
    per_fault = table(
        ["fault", *(f"AUROC {size}" for size in SIZES), "power", "top-1", *COMPARATORS],
        ([fault, *_fault_cells(real, fault)] for fault in sorted(faults)),
    )
    by_prompt = table(
        ["baseline", "nominal", *(f"prompt {n + 1}" for n in range(real["folds"]))],
        (
            [size, f"{float(level):.1%}", *(f"{rate:.1%}" for rate in rates)]
            for size in SIZES
            for level, rates in sorted(real[size][OURS]["false_positives_by_prompt"].items())
        ),
    )
    return [
        title, summary,
        "Per fault, AUROC (power, top-1 and the comparators with the baseline of 54):", per_fault,
        "False positives on the untouched recordings of each held-out prompt:", by_prompt,
    ]  # fmt: skip


def _summary(one: Row) -> list[str]:
    false = [f"{np.mean(rates):.1%}" for _, rates in sorted(one["false_positives_by_prompt"].items())]
    return [f"{one['auroc']:.3f}", *(f"{one[name]:.2f}" for name in ("top1", "top5", "power")), " / ".join(false)]


def _fault_cells(real: dict[str, Any], fault: str) -> list[str]:
    ours = [real[size][OURS]["faults"][fault] for size in SIZES]
    theirs = [real[SIZES[0]][name]["faults"][fault]["auroc"] for name in COMPARATORS]
    values = [*(one["auroc"] for one in ours), ours[0]["power"], ours[0]["top1"], *theirs]
    return [f"{value:.2f}" for value in values]


def _calibration(rows: list[Row]) -> str:
    header = [
        "network", "groups", "prompts", "baselines × recordings", "at 1 %", "at 2.3 %", "baselines' range at 2.3 %",
        "shortest / middle / longest third at 2.3 %", "worst site at 2.3 %", "any site flagged", "incident > 0.8",
        "onset",
    ]  # fmt: skip
    text = (
        "Clean recordings, of prompts that no baseline saw: share of sites at or below the nominal p-value, with 95 % "
        "intervals that draw baselines and prompts again (prompts: how many one recording holds)."
    )
    return f"{text}\n\n{table(header, map(_calibration_cells, rows))}"


def _calibration_cells(row: Row) -> list[str]:
    one, two = row["levels"]
    by_baseline = two["by_baseline"]
    return [
        row["network"], str(row["groups"]), str(row["incident_groups"]),
        f"{row['baselines']} × {row['recordings'] // row['baselines']}",
        _with_interval(one), _with_interval(two), f"{min(by_baseline):.1%}–{max(by_baseline):.1%}",
        " / ".join(f"{rate:.1%}" for rate in two["by_length"]),
        f"{two['worst_site']} {two['worst_site_rate']:.1%}",
        *(_with_interval(row[name]) for name in ("any_site_flagged", "incident_alarm", "onset")),
    ]  # fmt: skip


def _simulation(rows: list[Row]) -> str:
    text = (
        f"Simulated clean recordings of ten prompts ({rows[0]['baselines']} baselines each; equally correlated sites; "
        "± two standard errors): share with any site at the family-wise 5 %, where resampled means are judged by the "
        "groups that they leave out, as here, and where they are judged by all."
    )
    header = ["groups", "scores", "correlation of sites", "judged by the others", "judged by all"]
    lines = [
        [
            str(row["groups"]), "heavy-tailed" if row["heavy"] else "normal", f"{row['correlation']:.1f}",
            *(f"{row[name]['rate']:.1%} ± {2 * row[name]['error']:.1%}" for name in ("by_others", "by_all")),
        ]
        for row in rows
    ]  # fmt: skip
    return f"{text}\n\n{table(header, lines)}"


def _with_interval(value: Row) -> str:
    low, high = value["interval"]
    return f"{value['rate']:.1%} ({low:.1%}–{high:.1%})"


def _windows(rows: list[Row]) -> list[str]:
    text = (
        "Windows: a fault in a span of tokens × channels of one site; IoU of the worst window with the span (0 where "
        "no window is shown), and of the best of the three that are shown."
    )
    header = ["", "spans", "site flagged", "mean IoU", f"IoU > {GOOD_OVERLAP}", "best of three: mean IoU"]
    keys: list[Callable[[Row], str]] = [
        lambda row: str(row["network"]),
        lambda row: f"{row['tokens']} tokens × {row['channel_share']:.0%} of channels",
        lambda row: str(row["fault"]),
    ]
    lines = [[name, *_window_cells(part)] for key in keys for name, part in _grouped(rows, key)]
    return [text, table(header, lines)]


def _window_cells(rows: list[Row]) -> list[str]:
    iou = np.array([row["iou"] for row in rows])
    return [
        str(len(rows)), f"{np.mean([row['flagged'] for row in rows]):.0%}", f"{iou.mean():.2f}",
        f"{(iou > GOOD_OVERLAP).mean():.0%}", f"{np.mean([row['best_iou'] for row in rows]):.2f}",
    ]  # fmt: skip


def _propagation(rows: list[Row]) -> list[str]:
    cases = len({(row["network"], row["layer"], row["kind"], row["damage"]) for row in rows})
    text = (
        f"Damaged weights ({cases} cases: every layer, attention and MLP, the map that enters or leaves it). `layer` "
        "counts the component too."
    )
    header = ["network", "groups", "prompts", "incidents", "onset: component", "layer", "before", "after", "none",
              "strongest: component", "layer"]  # fmt: skip
    lines = [
        [network, groups, prompts, *_verdict_cells(part)]
        for (network, groups, prompts), part in _grouped(
            rows, lambda row: (row["network"], f"{row['groups']}", f"{row['incident_groups']}")
        )
    ]
    largest = max(row["groups"] for row in rows)
    chosen = [row for row in rows if row["groups"] == largest]
    by_damage = [
        [name, place, prompts, *_verdict_cells(part)]
        for (name, place, prompts), part in _grouped(
            chosen, lambda row: (row["damage"], row["weights"], f"{row['incident_groups']}")
        )
    ]
    return [
        text, table(header, lines),
        f"By damage and by the map that is hit, baselines of {largest} groups, both networks:",
        table(["damage", "map", *header[2:]], by_damage),
    ]  # fmt: skip


def _verdict_cells(rows: list[Row]) -> list[str]:
    onset = Counter(row["onset_verdict"] for row in rows)
    strongest = Counter(row["strongest_verdict"] for row in rows)

    def share(counts: Counter[str], *names: str) -> str:
        return f"{sum(counts[name] for name in names) / len(rows):.0%}"

    layer = ("component", "layer")
    return [
        str(len(rows)), share(onset, "component"), share(onset, *layer),
        *(share(onset, name) for name in ("before", "after", "none")),
        share(strongest, "component"), share(strongest, *layer),
    ]  # fmt: skip


def _grouped(rows: list[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """Rows with equal keys, in order of first appearance."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.items())
