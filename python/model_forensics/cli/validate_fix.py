"""`model-forensics validate-fix`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter


@click.command("validate-fix")
@click.argument("results", type=options.EXISTING)
@click.option("--model", metavar="DIR_OR_ID", required=True, help="The model that failed.")
@click.option("--incident", type=options.EXISTING, help="The incident bundle [the one the results name].")
@options.baseline
@click.option("--donor-model", metavar="DIR_OR_ID", help="The donor model [the one the results name].")
@click.option("--contrast", type=options.EXISTING, help="The contrast recording, when the fix patches from one.")
@options.donor_values
@options.model_factory
@options.device
@options.common
def command(
    results: Path,
    model: str,
    incident: Path | None,
    baseline: Path | None,
    donor_model: str | None,
    contrast: Path | None,
    donor_values: Path | None,
    model_factory: str | None,
    device: str | None,
    output_format: str,
    quiet: bool,
) -> None:
    """Run the proof in RESULTS again: exit 0 if it holds, 1 if it does not.

    \b
    Example:
      model-forensics validate-fix results.json --model models/release-2
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    with Reporter(quiet=quiet) as progress:
        validation = RCAPipeline(options.configuration({"device": device}), progress=progress).validate_fix(
            results,
            model,
            incident=incident,
            baseline=baseline,
            donor_model=donor_model,
            contrast=contrast,
            donor_values=donor_values,
            model_factory=model_factory,
        )
    if output_format == "json":
        click.echo(validation.model_dump_json(indent=2))
    else:
        verdict = "holds" if validation.holds else "does not hold"
        click.echo(f"The fix ({validation.recorded}) {verdict}: {validation.reason}.")
    if not validation.holds:
        sys.exit(exits.NOT_HELD)
