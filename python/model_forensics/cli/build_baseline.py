"""`model-forensics build-baseline`"""

from __future__ import annotations

from pathlib import Path

import click

from model_forensics.cli import options


@click.command("build-baseline")
@click.argument("directory", type=options.EXISTING)
@click.option("--output", type=options.EXISTING, required=True, help="Where the baseline goes.")
@click.option("--samples", type=options.COUNT, help="Fit at most this many samples.")
@click.option("--force", is_flag=True, help="Replace an existing baseline.")
@options.forensics_options
def command(
    directory: Path, output: Path, samples: int | None, force: bool, threshold: float | None, methods: str | None
) -> None:
    """Fit a baseline from the benign bundles in DIRECTORY.

    \b
    Example:
      model-forensics build-baseline benign/ --output baseline/
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    section = options.forensics_settings(threshold, methods)
    if samples is not None:
        section["baseline_samples"] = samples
    config = options.configuration({"modules": {"cf": section}})
    baseline = RCAPipeline(config).build_baseline(directory, output, overwrite=force)
    click.echo(f"Baseline {baseline.baseline_id}: {len(baseline.sites)} sites, {baseline.groups} groups, in {output}")
