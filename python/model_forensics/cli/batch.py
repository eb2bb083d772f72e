"""`model-forensics batch`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter

if TYPE_CHECKING:
    from model_forensics.types import BatchSummary

_SHOWN = 20  # groups and failures in the table; all of them are in summary.json


@click.command("batch")
@click.argument("directory", type=options.EXISTING)
@options.baseline
@click.option("--model", metavar="DIR_OR_ID", help="The model that failed; by default the ones the bundles name.")
@click.option("--donor-model", metavar="DIR_OR_ID", help="A version that works: the donor of activations.")
@options.model_factory
@click.option("--output", type=options.EXISTING, required=True, help="A directory for results, ledger and summary.")
@click.option("--workers", type=options.COUNT, help="Processes, each with the model; by default what suits.")
@click.option("--resume", is_flag=True, help="Go on with the batch that is in the output.")
@click.option("--retry", is_flag=True, help="With --resume: also what was refused or poisoned before.")
@click.option("--force", is_flag=True, help="Forget the batch that is in the output, and its results.")
@click.option("--no-html", is_flag=True, help="Write no page beside each JSON.")
@click.option("--forensics-only", is_flag=True, help="Search no fix.")
@click.option("--timeout-minutes", type=options.POSITIVE, help="Stop each search and take the best so far.")
@click.option("--seed", type=click.IntRange(min=0), help="Fixes what is drawn at random [0].")
@click.option("--strict", is_flag=True, help="Refuse bundles whose weights differ from the model's.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something was found.")
@options.forensics_options
@options.device
@options.no_cache
@options.common
def command(
    directory: Path,
    baseline: Path | None,
    model: str | None,
    donor_model: str | None,
    model_factory: str | None,
    output: Path,
    workers: int | None,
    resume: bool,
    retry: bool,
    force: bool,
    no_html: bool,
    forensics_only: bool,
    timeout_minutes: float | None,
    seed: int | None,
    strict: bool,
    exit_code: bool,
    threshold: float | None,
    methods: str | None,
    device: str | None,
    no_cache: bool,
    output_format: str,
    quiet: bool,
) -> None:
    """Analyze every incident in DIRECTORY, each exactly once, however often this is killed and resumed.

    A bundle that is refused, or that ends the process that analyzes it twice, is reported and does not stop the rest;
    the exit code is 4 then.

    \b
    Example:
      model-forensics batch bundles/ --baseline benign/ --output results/ --resume
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    if forensics_only:
        searching = {"--model": model, "--donor-model": donor_model, "--model-factory": model_factory}
        options.contradiction("--forensics-only", {**searching, "--strict": strict})
    if force:
        options.contradiction("--force", {"--resume": resume})
    if not resume:
        options.contradiction("starting a batch anew", {"--retry": retry})
    settings = {
        "cache": options.cache_settings(no_cache),
        "device": device,
        "seed": seed,
        "timeout_minutes": timeout_minutes,
        "modules": {
            "cf": options.forensics_settings(threshold, methods),
            "cca": {"enabled": False if forensics_only else None},
        },
    }
    config = options.configuration(settings)
    with Reporter(quiet=quiet) as progress:
        summary = RCAPipeline(config, progress=progress).batch(
            directory,
            baseline,
            model,
            output=output,
            donor_model=donor_model,
            model_factory=model_factory,
            workers=workers,
            resume=resume,
            retry=retry,
            force=force,
            html=not no_html,
            strict=strict,
        )
    if output_format == "json":
        click.echo(summary.model_dump_json(indent=2))
    else:
        _print_table(summary)
    if summary.failed:
        sys.exit(exits.PARTLY_DONE)
    if exit_code and summary.found:
        sys.exit(exits.NOT_HELD)


def _print_table(summary: BatchSummary) -> None:
    from rich.console import Console  # noqa: PLC0415  (rich loads late)
    from rich.table import Table  # noqa: PLC0415

    table = Table("incidents", "found", "cause or signature", "for example", box=None)
    for group in summary.groups[:_SHOWN]:
        table.add_row(f"{group.count:,}", group.kind, group.key, group.incidents[0])
    console = Console()
    if summary.groups:
        console.print(table) if console.is_terminal else Console(width=160).print(table)
    if len(summary.groups) > _SHOWN:
        click.echo(f"… and {len(summary.groups) - _SHOWN:,} smaller groups")
    for failure in summary.failures[:_SHOWN]:
        click.echo(f"{failure.state}: {failure.incident}: {failure.error}", err=True)
    if len(summary.failures) > _SHOWN:
        click.echo(f"… and {len(summary.failures) - _SHOWN:,} more", err=True)
    counts = ", ".join(f"{count:,} {state}" for state, count in summary.counts.items())
    click.echo(f"\n{counts}\nSummary: {Path(summary.output) / 'summary.json'}, summary.html")
