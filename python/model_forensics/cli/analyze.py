"""`model-forensics analyze`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter

if TYPE_CHECKING:
    from model_forensics.types import AnalysisResult

FOUND = ("cause_found", "workaround_found", "anomaly_located")


@click.command("analyze")
@click.argument("incident", type=options.EXISTING)
@options.baseline
@click.option("--model", metavar="DIR_OR_ID", help="The model that failed; by default the one the bundle names.")
@click.option("--donor-model", metavar="DIR_OR_ID", help="A version that works: the donor of activations.")
@click.option("--contrast", type=options.EXISTING, help="A recording whose samples pair with the incident's.")
@options.donor_values
@click.option("--donor-sample", metavar="ID", help="Patch from this benign sample; it aligns token for token.")
@options.model_factory
@click.option("--output", type=options.EXISTING, help="Where the JSON goes [analysis_results/<bundle id>.json].")
@click.option("--report", "report_path", type=options.EXISTING, help="Where the HTML goes [beside the JSON].")
@click.option("--granularity", type=click.Choice(["component", "head"]), help="What may be a cause.")
@click.option("--search-strategy", type=click.Choice(["greedy", "beam", "random"]), help="How sets grow.")
@click.option("--beam-width", type=options.COUNT, help="Sets of each size that beam keeps.")
@click.option("--max-fix-set-size", type=options.COUNT, help="At most this many interventions.")
@click.option(
    "--evidence",
    type=click.Choice(["standard", "full"]),
    help="full: repeat the search with shuffled donors [standard].",
)
@click.option("--forensics-only", is_flag=True, help="Search no fix.")
@click.option("--timeout-minutes", type=options.POSITIVE, help="Stop the search and report the best so far.")
@click.option("--seed", type=click.IntRange(min=0), help="Fixes what is drawn at random [0].")
@click.option("--strict", is_flag=True, help="Refuse a model whose weights differ from those recorded.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something was found.")
@options.forensics_options
@options.device
@options.force
@options.no_cache
@options.common
def command(
    incident: Path,
    baseline: Path | None,
    model: str | None,
    donor_model: str | None,
    contrast: Path | None,
    donor_values: Path | None,
    donor_sample: str | None,
    model_factory: str | None,
    output: Path | None,
    report_path: Path | None,
    granularity: str | None,
    search_strategy: str | None,
    beam_width: int | None,
    max_fix_set_size: int | None,
    evidence: str | None,
    forensics_only: bool,
    timeout_minutes: float | None,
    seed: int | None,
    strict: bool,
    exit_code: bool,
    threshold: float | None,
    methods: str | None,
    device: str | None,
    force: bool,
    no_cache: bool,
    output_format: str,
    quiet: bool,
) -> None:
    """Find the cause of INCIDENT and prove it.

    \b
    Example:
      model-forensics analyze incident/ --baseline benign/ --output results.json
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    if forensics_only:
        donors = {"--contrast": contrast, "--donor-values": donor_values, "--donor-sample": donor_sample}
        searching = {"--model": model, "--donor-model": donor_model, **donors, "--strict": strict}
        options.contradiction("--forensics-only", {**searching, "--model-factory": model_factory})
        options.contradiction(
            "--forensics-only",
            {
                "--search-strategy": search_strategy,
                "--max-fix-set-size": max_fix_set_size,
                "--evidence": evidence,
            },
        )
    causal = {
        "enabled": False if forensics_only else None,
        "granularity": granularity,
        "search_strategy": search_strategy,
        "beam_width": beam_width,
        "max_fix_set_size": max_fix_set_size,
        "evidence": evidence,
        "donor": None if donor_sample is None else "benign_sample",
        "donor_sample": donor_sample,
    }
    settings = {
        "cache": options.cache_settings(no_cache),
        "device": device,
        "seed": seed,
        "timeout_minutes": timeout_minutes,
        "modules": {
            "cf": options.forensics_settings(threshold, methods),
            "cca": causal,
        },
    }
    config = options.configuration(settings)
    strategy = config.modules.cca.search_strategy
    if strategy != "beam":
        options.contradiction(f"--search-strategy {strategy}", {"--beam-width": beam_width})
    with Reporter(quiet=quiet) as progress:
        result = RCAPipeline(config, progress=progress).analyze_incident(
            incident,
            baseline,
            model,
            donor_model=donor_model,
            contrast=contrast,
            donor_values=donor_values,
            model_factory=model_factory,
            output=output,
            html=report_path or True,
            overwrite=force,
            strict=strict,
        )
    show(result, report_path, output_format)
    if exit_code and result.verdict in FOUND:
        sys.exit(exits.NOT_HELD)


def show(result: AnalysisResult, page: Path | None, output_format: str) -> None:
    """Print a result that was written; `page` is None for beside the JSON."""
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.types import printable  # noqa: PLC0415

    if output_format == "json":
        click.echo(result.model_dump_json(indent=2))
        return
    click.echo(report.render_text(result))
    click.echo(f"\nResults: {result.export_path}")
    page = page or Path(str(result.export_path)).with_suffix(".html")
    click.echo(f"Report:  {printable(str(page))}")
