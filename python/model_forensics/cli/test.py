"""`model-forensics test`"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options

if TYPE_CHECKING:
    from model_forensics.selftest import Check

SIGNS = {"ok": "ok      ", "broken": "BROKEN  ", "skipped": "skipped "}


@click.command("test")
@click.option("--model", metavar="DIR_OR_ID", help="A model that should load.")
@options.model_factory
@options.device
@options.common_with("table", "json", audited=False)
def command(model: str | None, model_factory: str | None, device: str | None, output_format: str, quiet: bool) -> None:
    """Check that this installation works: exit 0 if it does, 1 if something is broken.

    Every available backend is held against the reference, the places that the configuration names are written to, and
    the shipped incident is analysed from end to end.

    \b
    Example:
      model-forensics test --config forensics.yaml --model models/release-2
    """
    from model_forensics.selftest import self_test  # noqa: PLC0415  (keeps --help fast)

    in_words = output_format == "table"
    found = self_test(
        options.configuration({"device": device}),
        model=model,
        model_factory=model_factory,
        told=lambda check: click.echo(_line(check)) if in_words and not (quiet and check.status != "broken") else None,
    )
    if not in_words:
        click.echo(found.model_dump_json(indent=2))
    elif found.works:
        click.echo("This installation works.")
    else:
        click.echo(f"{sum(check.status == 'broken' for check in found.checks)} of {len(found.checks)} checks failed.")
    if not found.works:
        sys.exit(exits.NOT_HELD)


def _line(check: Check) -> str:
    text = f"{SIGNS[check.status]}{check.name}: {check.detail}"
    return text if check.cure is None else f"{text}\n        {check.cure}."
