"""`model-forensics build-baseline`"""

from __future__ import annotations

from pathlib import Path

import click

from model_forensics.cli import options


@click.command("build-baseline")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=options.EXISTING)
@click.option("--output", type=options.EXISTING, required=True, help="Where the baseline goes.")
@click.option("--samples", type=options.COUNT, help="Fit at most this many samples.")
@click.option("--force", is_flag=True, help="Replace an existing baseline.")
@options.forensics_options
def command(
    sources: tuple[Path, ...],
    output: Path,
    samples: int | None,
    force: bool,
    threshold: float | None,
    methods: str | None,
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

    section = options.forensics_settings(threshold, methods)
    if samples is not None:
        section["baseline_samples"] = samples
    config = options.configuration({"modules": {"cf": section}})
    baseline = RCAPipeline(config).build_baseline(sources, output, overwrite=force)
    click.echo(f"Baseline {baseline.baseline_id}: {len(baseline.sites)} sites, {baseline.groups} groups, in {output}")
