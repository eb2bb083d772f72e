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
@options.model_factory
@click.option("--output", type=options.EXISTING, help="Where the JSON goes [analysis_results/<bundle id>.json].")
@click.option("--report", "report_path", type=options.EXISTING, help="Where the HTML goes [beside the JSON].")
@click.option("--granularity", type=click.Choice(["component", "head"]), help="What may be a cause.")
@click.option("--max-fix-set-size", type=int, help="At most this many interventions.")
@click.option("--forensics-only", is_flag=True, help="Search no fix.")
@click.option("--timeout-minutes", type=float, help="Stop the search and report the best so far.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--strict", is_flag=True, help="Refuse a model whose weights differ from those recorded.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something was found.")
@options.forensics_options
@options.device
@options.output_format
@options.quiet
def command(  # noqa: PLR0913  (one argument an option)
    incident: Path,
    baseline: Path | None,
    model: str | None,
    donor_model: str | None,
    contrast: Path | None,
    model_factory: str | None,
    output: Path | None,
    report_path: Path | None,
    granularity: str | None,
    max_fix_set_size: int | None,
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
    from model_forensics.config import Config  # noqa: PLC0415
    from model_forensics.files import atomic_write  # noqa: PLC0415
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415

    causal = {"enabled": not forensics_only, "granularity": granularity, "max_fix_set_size": max_fix_set_size}
    settings = {
        "device": device,
        "seed": seed,
        "timeout_minutes": timeout_minutes,
        "modules": {
            "cf": options.forensics_settings(threshold, methods),
            "cca": {key: value for key, value in causal.items() if value is not None},
        },
    }
    config = Config.from_dict({key: value for key, value in settings.items() if value is not None}, "command line")
    with Reporter(quiet=quiet) as progress:
        result = RCAPipeline(config, progress=progress).analyze_incident(
            incident,
            baseline,
            model,
            donor_model=donor_model,
            contrast=contrast,
            model_factory=model_factory,
            output=output,
            strict=strict,
        )
    json_path = Path(str(result.export_path))
    html_path = report_path or json_path.with_suffix(".html")
    atomic_write(html_path, report.render_html(result))
    if output_format == "json":
        click.echo(result.model_dump_json(indent=2))
    else:
        click.echo(report.render_text(result))
        click.echo(f"\nResults: {json_path}\nReport:  {html_path}")
    if exit_code and result.verdict in FOUND:
        sys.exit(exits.NOT_HELD)
