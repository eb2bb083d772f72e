"""`model-forensics triage`"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter
from model_forensics.errors import InputRefused

if TYPE_CHECKING:
    from rich.table import Table

    from model_forensics.types import TriageEntry, TriageGroup


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@click.command("triage")
@click.argument("directory", type=options.EXISTING, required=False)
@options.baseline
@click.option("--sort-by", type=click.Choice(["anomaly", "size", "date"]), default="anomaly", show_default=True)
@click.option("--top", type=click.IntRange(min=1), help="Show only the first N groups, or bundles with --no-groups.")
@click.option("--no-groups", is_flag=True, help="Show every bundle by itself.")
@click.option("--workers", type=options.COUNT, help="Processes; by default as many as pay off for so many bundles.")
@options.forensics_options
@options.no_cache
@options.common_with_formats("table", "json", "csv")
def command(
    directory: Path | None,
    baseline: Path | None,
    sort_by: str,
    top: int | None,
    no_groups: bool,
    workers: int | None,
    threshold: float | None,
    methods: str | None,
    no_cache: bool,
    output_format: str,
    quiet: bool,
) -> None:
    """Rank the bundles in DIRECTORY [bundle_dir of the configuration], the most urgent first.

    Bundles that depart alike are one group: the table shows groups, JSON groups and bundles, CSV bundles with the
    number of their group. With --no-groups, table and JSON list the bundles alone.

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
    _show(entries, top, output_format, grouped=not no_groups)
    for entry in broken:
        click.echo(f"refused: {entry.error}", err=True)
    if broken:
        sys.exit(exits.PARTLY_DONE if len(broken) < len(entries) else InputRefused.exit_code)


def _show(entries: list[TriageEntry], top: int | None, output_format: str, *, grouped: bool) -> None:
    from model_forensics.pipeline.triage import groups_of  # noqa: PLC0415  (keeps --help fast)

    groups = groups_of(entries)[:top]
    if grouped:
        numbers = {group.number for group in groups}
        shown = [entry for entry in entries if entry.group is None or entry.group in numbers]
    else:
        shown = entries[:top]
    listed = [entry.model_dump(mode="json") for entry in shown] if output_format != "table" else []
    if output_format == "csv":
        _print_csv(listed)
    elif output_format == "json":
        sums = [group.model_dump(mode="json") for group in groups]
        click.echo(json.dumps({"groups": sums, "entries": listed} if grouped else listed, indent=2))
    elif grouped:
        _print_groups(groups)
    else:
        _print_table([entry for entry in shown if entry.error is None])


def _print_csv(listed: list[dict[str, object]]) -> None:
    """One line a bundle, refused ones too; empty where nothing was measured.

    Text that a spreadsheet would take for a formula gets an apostrophe before it: ids and paths come from strangers.
    """
    from model_forensics.types import TriageEntry  # noqa: PLC0415  (keeps --help fast)

    text = io.StringIO()
    writer = csv.DictWriter(text, list(TriageEntry.model_fields), lineterminator="\n")
    writer.writeheader()
    for entry in listed:
        writer.writerow({name: _harmless(value) for name, value in entry.items()})
    click.echo(text.getvalue(), nl=False)


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _print_groups(groups: list[TriageGroup]) -> None:
    from rich.table import Table  # noqa: PLC0415  (rich loads late)

    table = Table("group", "bundles", "score", "departs at", "for example", box=None)
    for group in groups:
        scores = [f"{score:.2f}" for score in group.anomaly_score or ()]
        table.add_row(
            str(group.number),
            f"{group.count:,}",
            "–".join(dict.fromkeys(scores)) or "–",
            group.signature or "–",
            Path(group.representative).name,
        )
    _print(table)


def _print_table(entries: list[TriageEntry]) -> None:
    from rich.table import Table  # noqa: PLC0415  (rich loads late)

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
    _print(table)


def _print(table: Table) -> None:
    from rich.console import Console  # noqa: PLC0415  (rich loads late)

    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
