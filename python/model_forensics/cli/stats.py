"""`model-forensics stats`"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import options

if TYPE_CHECKING:
    from model_forensics.store import Statistics
    from model_forensics.store.statistics import Spread


@click.command("stats")
@click.option("--since", metavar="WHEN", help="24h, 7d, 2w, or an ISO date; without it, everything.")
@click.option("--output-dir", type=options.EXISTING, help="Where the results' ledger is [analysis_results].")
@options.common_with("table", "json", audited=False)
def command(since: str | None, output_dir: Path | None, output_format: str, quiet: bool) -> None:
    """Show what analyses found and how long they took, from the ledger that analyze and batch keep.

    Durations count every run. Findings count each incident once, with its latest run.

    \b
    Example:
      model-forensics stats --since 24h
    """
    from model_forensics.store import LEDGER_FILE, Ledger, parse_since  # noqa: PLC0415  (keeps --help fast)

    config = options.configuration({"output_dir": output_dir})
    now = datetime.now(UTC)
    path = config.output_dir / LEDGER_FILE
    found = Ledger(path).statistics(None if since is None else parse_since(since, now), now=now)
    if output_format == "json":
        click.echo(json.dumps({"ledger": str(path), **asdict(found)}, indent=2, default=datetime.isoformat))
    elif not found.runs:
        click.echo(f"No analysis has ended {_period(found)}. ({path}{'' if path.exists() else ' is not there yet'})")
    else:
        _print_tables(found)


def _print_tables(found: Statistics) -> None:
    from rich.console import Console  # noqa: PLC0415  (rich loads late)
    from rich.table import Table  # noqa: PLC0415

    from model_forensics.report import plural, rate  # noqa: PLC0415

    console = Console()
    console = console if console.is_terminal else Console(width=160)
    period = _period(found)
    counts = f"{plural(found.runs, 'run')}, {found.refused:,} refused, {plural(found.incidents, 'incident')}"
    click.echo(f"{period[0].upper()}{period[1:]}: {counts}")
    verdicts = Table("verdict", "incidents", box=None)
    for verdict, count in found.verdicts.items():
        verdicts.add_row(verdict, f"{count:,}")
    causes = Table("fix set", "sites", "incidents", "flip rate p50", "mean", box=None)
    for cause in found.causes:
        rates = cause.flip_rates
        causes.add_row(cause.label, ", ".join(cause.sites), f"{cause.incidents:,}", rate(rates.p50), rate(rates.mean))
    spreads = Table("", "count", "mean", "p50", "p90", "p99", "largest", box=None)
    for name, spread in (("flip rate", found.flip_rates), ("anomaly score", found.anomaly_scores)):
        if spread is not None:
            spreads.add_row(name, *_cells(spread, rate))
    for stage, spread in found.seconds.items():
        spreads.add_row(f"{stage}, s", *_cells(spread, "{:,.3f}".format))
    errors = Table("refused with", "runs", box=None)
    for error, count in found.errors.items():
        errors.add_row(error, f"{count:,}")
    for table in (verdicts, causes, spreads, errors):
        if table.row_count:
            click.echo()
            console.print(table)


def _cells(spread: Spread, shown: Callable[[float], str]) -> list[str]:
    measured = (spread.mean, spread.p50, spread.p90, spread.p99, spread.largest)
    return [f"{spread.count:,}", *map(shown, measured)]


def _period(found: Statistics) -> str:
    return "so far" if found.since is None else f"since {found.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
