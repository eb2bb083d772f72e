"""`model-forensics analyze`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter

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
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--strict", is_flag=True, help="Refuse a model whose weights differ from those recorded.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something was found.")
@options.forensics_options
@options.device
@options.output_format
@options.quiet
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
    seed: int,
    strict: bool,
    exit_code: bool,
    threshold: float | None,
    methods: str | None,
    device: str,
    output_format: str,
    quiet: bool,
) -> None:
    """Find the cause of INCIDENT and prove it.

    \b
    Example:
      model-forensics analyze incident/ --baseline benign/ --output results.json
    """
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.files import atomic_write  # noqa: PLC0415
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415

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
    if search_strategy != "beam":
        options.contradiction(f"--search-strategy {search_strategy or 'greedy'}", {"--beam-width": beam_width})
    _check_targets(incident, output, report_path)
    causal = {
        "enabled": not forensics_only,
        "granularity": granularity,
        "search_strategy": search_strategy,
        "beam_width": beam_width,
        "max_fix_set_size": max_fix_set_size,
        "evidence": evidence,
        "donor": None if donor_sample is None else "benign_sample",
        "donor_sample": donor_sample,
    }
    settings = {
        "device": device,
        "seed": seed,
        "timeout_minutes": timeout_minutes,
        "modules": {
            "cf": options.forensics_settings(threshold, methods),
            "cca": {key: value for key, value in causal.items() if value is not None},
        },
    }
    config = options.configuration({key: value for key, value in settings.items() if value is not None})
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
            strict=strict,
        )
    json_path = Path(str(result.export_path))
    html_path = _html_path(json_path, report_path)
    atomic_write(html_path, report.render_html(result))
    if output_format == "json":
        click.echo(result.model_dump_json(indent=2))
    else:
        click.echo(report.render_text(result))
        click.echo(f"\nResults: {json_path}\nReport:  {html_path}")
    if exit_code and result.verdict in FOUND:
        sys.exit(exits.NOT_HELD)


def _html_path(json_path: Path, report_path: Path | None) -> Path:
    return report_path or json_path.with_suffix(".html")


def _check_targets(incident: Path, output: Path | None, report_path: Path | None) -> None:
    """Refuse, before the work, files that could not both be written after it; the JSON's place is checked later.

    Raises:
        UsageError: both are one file, or the report is a directory or inside the bundle.
        StorageError: the report's directory cannot be written to.
    """
    from model_forensics.errors import UsageError  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.sources import check_writable  # noqa: PLC0415

    html_path = report_path if output is None else _html_path(output, report_path)
    if html_path is None:
        return
    if output is not None and html_path.resolve() == output.resolve():
        cure = "Give the JSON another ending than .html, or name the report with --report"
        raise UsageError("both the JSON and the HTML would go here", where=html_path, cure=cure)
    if html_path.resolve().is_relative_to(incident.resolve()):
        raise UsageError("is inside the incident bundle", where=html_path, cure="Choose a place outside of it")
    check_writable(html_path)
