"""`model-forensics report`"""

from __future__ import annotations

from pathlib import Path

import click

from model_forensics.cli import options


@click.command("report")
@click.argument("results", type=options.EXISTING)
@click.option("--output", type=options.EXISTING, help="Where the HTML goes [beside the results].")
def command(results: Path, output: Path | None) -> None:
    """Render RESULTS as one self-contained HTML file.

    \b
    Example:
      model-forensics report results.json --output report.html
    """
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.errors import UsageError  # noqa: PLC0415
    from model_forensics.files import atomic_write  # noqa: PLC0415

    target = output or results.with_suffix(".html")
    if target.resolve() == results.resolve():
        raise UsageError("the report would replace the results", where=target, cure="Name another file with --output")
    atomic_write(target, report.render_html(report.read_json_result(results)))
    click.echo(f"Report: {target}")
