"""`model-forensics build-baseline`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from model_forensics.cli import options
from model_forensics.cli.progress import Reporter


@click.command("build-baseline")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=options.EXISTING)
@click.option("--output", type=options.EXISTING, required=True, help="Where the baseline goes.")
@click.option("--samples", type=options.COUNT, help="Fit at most this many samples.")
@options.forensics_options
@options.force
@options.common
def command(
    sources: tuple[Path, ...],
    output: Path,
    samples: int | None,
    threshold: float | None,
    methods: str | None,
    force: bool,
    output_format: str,
    quiet: bool,
) -> None:
    """Fit a baseline from every SOURCE: a benign bundle, a directory of them, or a fitted baseline.

    A fitted baseline stands for the bundles that it was fitted from, so baselines are combined and extended exactly as
    if everything were fitted at once. Bundles that were moved since are found when their directory is given as well.

    \b
    Examples:
      model-forensics build-baseline benign/ --output baseline/
      model-forensics build-baseline baseline/ new-benign/ --output baseline/ --force
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    section = {**options.forensics_settings(threshold, methods), "baseline_samples": samples}
    config = options.configuration({"modules": {"cf": section}})
    with Reporter(quiet=quiet) as progress:
        baseline = RCAPipeline(config, progress=progress).build_baseline(sources, output, overwrite=force)
    sites, groups = len(baseline.sites), baseline.groups
    if output_format == "json":
        shown = {"baseline_id": baseline.baseline_id, "sites": sites, "groups": groups, "output": str(output)}
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(f"Baseline {baseline.baseline_id}: {sites} sites, {groups} groups, in {output}")
