"""`model-forensics demo`"""

from __future__ import annotations

import os
from pathlib import Path

import click

from model_forensics.cli import options
from model_forensics.cli.analyze import show
from model_forensics.cli.progress import Reporter


@click.command("demo")
@click.option(
    "--output",
    type=options.EXISTING,
    default=Path("demo-results"),
    show_default=True,
    help="Directory for the results.",
)
@options.force
@options.common
def command(output: Path, force: bool, output_format: str, quiet: bool) -> None:
    """Analyze the incident that ships with the package, one of those in docs/zoo.md: a small transformer of which one
    component was damaged.

    Everything that it writes goes to the output directory. The results of an earlier demo are replaced; anything else
    in their place is not, without --force.

    \b
    Example:
      model-forensics demo
    """
    from model_forensics.demo import Truth, data_directory  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.pipeline import RCAPipeline  # noqa: PLC0415

    config = options.configuration({"output_dir": output})  # also its row of the ledger: it is no incident of anyone's
    with data_directory() as found:
        data = min(Path(os.path.relpath(found)), found, key=lambda path: len(str(path)))  # the shorter one reads better
        results = output / "results.json"
        shown = f"{data}/incident --baseline {data}/benign --output {results}"
        if output_format == "table":
            click.echo(f"$ model-forensics analyze {shown}\n")
        with Reporter(quiet=quiet) as progress:
            result = RCAPipeline(config, progress=progress).analyze_incident(
                data / "incident",
                data / "benign",
                output=results,
                html=True,
                overwrite=force or _is_of_a_demo(results, data / "incident"),
            )
        show(result, None, output_format)
        if output_format == "table":
            truth = Truth.read(data)
            named = "That is the cause that was named." if truth.is_named_by(result.fix_set) else "It was not named."
            click.echo(f"\nPlanted: {truth.how}. {named}")


def _is_of_a_demo(results: Path, incident: Path) -> bool:
    """Whether these are results about the shipped incident, which anyone can have again."""
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.bundle import load_bundle  # noqa: PLC0415
    from model_forensics.errors import ResultsError  # noqa: PLC0415

    if not results.is_file():
        return False
    try:
        earlier = report.read_json_result(results)
    except ResultsError:
        return False
    shipped = load_bundle(incident)
    return (earlier.bundle_id, earlier.incident.created_at) == (shipped.bundle_id, shipped.created_at)
