"""`model-forensics diff`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from model_forensics.cli import exits, options


@click.command("diff")
@click.argument("left", metavar="A", type=options.EXISTING)
@click.argument("right", metavar="B", type=options.EXISTING)
@click.option(
    "--report", "report_path", metavar="FILE", type=options.EXISTING, help="Write the comparison as HTML too."
)
@options.force
@click.option("--exit-code", is_flag=True, help="Exit with 1 when the two differ.")
@options.common
def command(
    left: Path, right: Path, report_path: Path | None, force: bool, exit_code: bool, output_format: str, quiet: bool
) -> None:
    """Show what differs between A and B: two bundles, or two results files.

    Of bundles, values are compared for samples with the same inputs. Where and when something was recorded or analysed
    is shown and does not count as a difference.

    \b
    Example:
      model-forensics diff monday.json tuesday.json
    """
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.files import write_protected  # noqa: PLC0415
    from model_forensics.pipeline import sources  # noqa: PLC0415

    if report_path is not None:
        sources.check_writable(report_path, overwrite=force)
    comparison = sources.compare(left, right)
    if report_path is not None:
        write_protected(
            report_path, report.render_comparison_html(comparison), role=report.REPORT_ROLE, overwrite=force
        )
    if output_format == "json":
        click.echo(comparison.model_dump_json(indent=2))
    else:
        click.echo(report.render_comparison_text(comparison))
        if report_path is not None:
            click.echo(f"\nReport: {report_path}")
    if exit_code and comparison.differ:
        sys.exit(exits.NOT_HELD)
