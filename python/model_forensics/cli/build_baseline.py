"""`model-forensics build-baseline`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from model_forensics.cli import options
from model_forensics.cli.progress import Reporter


@click.command("build-baseline")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=options.EXISTING)
@click.option("--output", metavar="PATH", type=options.EXISTING, help="Where the baseline goes.")
@click.option("--update", metavar="BASELINE", type=options.EXISTING, help="Extend this baseline, in its place.")
@click.option("--samples", type=options.COUNT, help="Fit at most this many samples.")
@options.forensics_options
@options.force
@options.common
def command(
    sources: tuple[Path, ...],
    output: Path | None,
    update: Path | None,
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
      model-forensics build-baseline new-benign/ --update baseline/
    """
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415  (keeps --help fast)

    sources, target = _places(sources, output, update)
    section = {**options.forensics_settings(threshold, methods), "baseline_samples": samples}
    config = options.configuration({"modules": {"cf": section}})
    with Reporter(quiet=quiet) as progress:
        baseline = RCAPipeline(config, progress=progress).build_baseline(
            sources, target, overwrite=force or update is not None
        )
    sites, groups = len(baseline.sites), baseline.groups
    if output_format == "json":
        shown = {"baseline_id": baseline.baseline_id, "sites": sites, "groups": groups, "output": str(target)}
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(f"Baseline {baseline.baseline_id}: {sites} sites, {groups} groups, in {target}")


def _places(sources: tuple[Path, ...], output: Path | None, update: Path | None) -> tuple[tuple[Path, ...], Path]:
    """What is fitted, and where it goes.

    Raises:
        UsageError: not exactly one of the two; nothing fitted is there to be extended.
    """
    from model_forensics.cf import is_baseline  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.errors import UsageError  # noqa: PLC0415

    if output is not None and update is None:
        return sources, output
    if update is None or output is not None:
        cure = "Give --output for a new baseline, or --update for one that is there"
        raise UsageError("--output or --update is needed, and not both", cure=cure)
    if not is_baseline(update):
        raise UsageError("no fitted baseline to extend", where=update, cure="Fit a new one with --output")
    return (update, *sources), update
