"""`model-forensics report`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from model_forensics.cli import options


@click.command("report")
@click.argument("results", type=options.EXISTING)
@click.option("--output", type=options.EXISTING, help="Where the HTML goes [beside the results].")
@click.option("--decrypt", is_flag=True, help="Write it plain, although there is a key: a browser opens no other.")
@options.force
@options.common
def command(results: Path, output: Path | None, decrypt: bool, force: bool, output_format: str, quiet: bool) -> None:
    """Render RESULTS as one self-contained HTML file, encrypted when MODEL_FORENSICS_ENCRYPTION_KEY is set.

    \b
    Example:
      model-forensics report results.json --output report.html
    """
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.errors import UsageError  # noqa: PLC0415
    from model_forensics.files import atomic_write, write_protected  # noqa: PLC0415
    from model_forensics.pipeline.sources import check_writable  # noqa: PLC0415

    target = output or results.with_suffix(".html")
    if target.resolve() == results.resolve():
        raise UsageError("the report would replace the results", where=target, cure="Name another file with --output")
    check_writable(target, overwrite=force)
    page = report.render_html(report.read_json_result(results))
    if decrypt:
        atomic_write(target, page, overwrite=force)
    encrypted = not decrypt and write_protected(target, page, role=report.REPORT_ROLE, overwrite=force)
    if output_format == "json":
        click.echo(json.dumps({"report": str(target), "encrypted": encrypted}))
    else:
        click.echo(f"Report: {target}{' (encrypted; --decrypt writes one that a browser opens)' if encrypted else ''}")
