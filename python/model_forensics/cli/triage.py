"""`model-forensics triage`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter
from model_forensics.errors import InputRefused

if TYPE_CHECKING:
    from model_forensics.types import TriageEntry


@click.command("triage")
@click.argument("directory", type=options.EXISTING, required=False)
@options.baseline
@click.option("--sort-by", type=click.Choice(["anomaly", "size", "date"]), default="anomaly", show_default=True)
@click.option("--top", type=click.IntRange(min=1), help="Show only the first N.")
@click.option("--workers", type=options.COUNT, help="Processes; by default as many as pay off for so many bundles.")
@options.forensics_options
@options.no_cache
@options.common
def command(
    directory: Path | None,
    baseline: Path | None,
    sort_by: str,
    top: int | None,
    workers: int | None,
    threshold: float | None,
    methods: str | None,
    no_cache: bool,
    output_format: str,
    quiet: bool,
) -> None:
    """Rank the bundles in DIRECTORY [bundle_dir of the configuration], the most urgent first.

    A bundle that is refused is listed with its error, and the exit code is 4; 3 when all are.

    \b
    Example:
      model-forensics triage bundles/ --baseline baseline/ --sort-by anomaly --top 20
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    section = options.forensics_settings(threshold, methods)
    config = options.configuration({"cache": options.cache_settings(no_cache), "modules": {"cf": section}})
    with Reporter(quiet=quiet) as progress:
        pipeline = RCAPipeline(config, progress=progress)
        place = directory or config.bundle_dir
        entries = pipeline.triage(place, baseline=baseline, sort_by=sort_by, workers=workers)  # type: ignore[arg-type]
    broken = [entry for entry in entries if entry.error is not None]
    shown = entries[:top]
    if output_format == "json":
        click.echo(json.dumps([entry.model_dump(mode="json") for entry in shown], indent=2))
    else:
        _print_table([entry for entry in shown if entry.error is None])
    for entry in broken:
        click.echo(f"refused: {entry.error}", err=True)
    if broken:
        sys.exit(exits.PARTLY_DONE if len(broken) < len(entries) else InputRefused.exit_code)


def _print_table(entries: list[TriageEntry]) -> None:
    from rich.console import Console  # noqa: PLC0415  (rich loads late)
    from rich.table import Table  # noqa: PLC0415

    table = Table("#", "bundle", "score", "p", "sites", "strongest", "onset", "samples", "recorded", box=None)
    for number, entry in enumerate(entries, 1):
        table.add_row(
            str(number),
            Path(entry.path).name,
            _shown(entry.anomaly_score, ".2f"),
            _shown(entry.p_value, ".2g"),
            _shown(entry.anomalous_sites, "d"),
            entry.strongest or "–",
            entry.onset or "–",
            _shown(entry.samples, "d"),
            entry.created_at.strftime("%Y-%m-%d %H:%M") if entry.created_at else "–",
        )
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
