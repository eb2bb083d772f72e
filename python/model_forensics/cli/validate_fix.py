"""`model-forensics validate-fix`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options
from model_forensics.cli.progress import Reporter

if TYPE_CHECKING:
    from model_forensics.types import Export


@click.command("validate-fix")
@click.argument("results", type=options.EXISTING)
@click.option("--model", metavar="DIR_OR_ID", required=True, help="The model that failed.")
@click.option("--incident", type=options.EXISTING, help="The incident bundle [the one the results name].")
@options.baseline
@click.option("--donor-model", metavar="DIR_OR_ID", help="The donor model [the one the results name].")
@click.option("--contrast", type=options.EXISTING, help="The contrast recording, when the fix patches from one.")
@options.donor_values
@click.option("--workaround", metavar="N", type=options.COUNT, help="Run workaround N of the result, the first is 1.")
@click.option(
    "--export-hook", metavar="FILE.py", type=options.EXISTING, help="Write the fix as a hook that needs torch."
)
@click.option(
    "--export-weights", metavar="DIR", type=options.EXISTING, help="Write the model with the fix in its weights."
)
@options.force
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
    workaround: int | None,
    export_hook: Path | None,
    export_weights: Path | None,
    force: bool,
    model_factory: str | None,
    device: str | None,
    output_format: str,
    quiet: bool,
) -> None:
    """Run the proof in RESULTS again: exit 0 if it holds, 1 if it does not.

    A proof that holds can be exported. What is written was run first, and gives the outputs that were proven; where
    that is not possible nothing is written, the reason is said, and the exit code is 4.

    \b
    Example:
      model-forensics validate-fix results.json --model models/release-2
      model-forensics validate-fix results.json --model models/release-2 --export-hook fix.py
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
            workaround=workaround,
            export_hook=export_hook,
            export_weights=export_weights,
            overwrite=force,
        )
    if output_format == "json":
        click.echo(validation.model_dump_json(indent=2))
    else:
        verdict = "holds" if validation.holds else "does not hold"
        click.echo(f"The fix ({validation.recorded}) {verdict}: {validation.reason}.")
        for export in validation.exports:
            click.echo(_exported(export), err=export.refused is not None)
        if not validation.holds and (export_hook or export_weights):
            click.echo("Nothing is exported.", err=True)
    if not validation.holds:
        sys.exit(exits.NOT_HELD)
    if any(export.refused is not None for export in validation.exports):
        sys.exit(exits.PARTLY_DONE)


def _exported(export: Export) -> str:
    if export.refused is not None:
        return f"No {export.kind} written: {export.refused}"
    what = {"hook": "Hook", "weights": "Weights"}[export.kind]
    same = f"gives the proven outputs of {export.samples} samples within {export.max_error:.1g} of the largest logit"
    if export.kind == "hook":
        return f"{what}: {export.path} ({same})"
    changed = ", ".join(export.changed or ()) or "nothing"
    origin = "; these are the donor's weights, tensor for tensor" if export.equals_donor else ""
    return f"{what}: {export.path} ({same}; changed: {changed}{origin})\n  {export.weights_digest}"
