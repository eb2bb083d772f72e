"""`model-forensics demo`"""

from __future__ import annotations

import os
from pathlib import Path

import click

from model_forensics.cli import options
from model_forensics.cli.analyze import command as analyze


@click.command("demo")
@click.option(
    "--output",
    type=options.EXISTING,
    default=Path("demo-results"),
    show_default=True,
    help="Directory for the results.",
)
@click.pass_context
def command(ctx: click.Context, output: Path) -> None:
    """Analyze the incident that ships with the package: a small transformer with one damaged component.

    \b
    Example:
      model-forensics demo
    """
    from model_forensics.demo import data_directory  # noqa: PLC0415  (keeps --help fast)

    with data_directory() as found:
        data = min(Path(os.path.relpath(found)), found, key=lambda path: len(str(path)))  # the shorter one reads better
        shown = f"{data}/incident --baseline {data}/benign --output {output}/results.json"
        click.echo(f"$ model-forensics analyze {shown}\n")
        ctx.invoke(
            analyze,
            incident=data / "incident",
            baseline=data / "benign",
            output=output / "results.json",
        )
