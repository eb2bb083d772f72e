"""`model-forensics compress-bundles`"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_forensics.cli import exits, options
from model_forensics.cli.durations import duration
from model_forensics.cli.progress import Reporter
from model_forensics.errors import InputRefused

if TYPE_CHECKING:
    from model_forensics.bundle import Compression

_REWRITTEN = ("compressed", "would_compress", "kept_plain")


@click.command("compress-bundles")
@click.argument("directory", type=options.EXISTING)
@click.option(
    "--older-than", callback=duration, required=True, metavar="AGE", help="Of this age at least: 90d, 24h, 0d."
)
@click.option("--dry-run", is_flag=True, help="Code everything, say what that would save, and change nothing.")
@click.option("--keep-going", is_flag=True, help="After a bundle that cannot be written, try the next.")
@click.option("--rekey", is_flag=True, help="First change the key of all bundles, as the command `rekey` does.")
@options.common
def command(
    directory: Path,
    older_than: timedelta,
    dry_run: bool,
    keep_going: bool,
    rekey: bool,
    output_format: str,
    quiet: bool,
) -> None:
    """Compress the old bundles in DIRECTORY without loss; they are read as before.

    Each is written anew beside the old one, read back and compared digest by digest, and then takes its place in one
    step; after a kill, the same command finishes the work. A bundle that is refused is listed with its error, and the
    exit code is 4; 3 when all are.

    \b
    Example:
      model-forensics compress-bundles bundles/ --older-than 90d
    """
    from model_forensics.bundle import compress_bundles  # noqa: PLC0415
    from model_forensics.pipeline.bookkeeping import about, partly  # noqa: PLC0415  (keeps --help fast)

    if rekey:
        _rekey(directory, dry_run)
    found: list[Compression] = []
    try:
        with Reporter(quiet=quiet) as progress:
            found.extend(
                compress_bundles(
                    directory,
                    older_than,
                    dry_run=dry_run,
                    keep_going=keep_going,
                    progress=lambda done, total: progress("compress", done, total),
                )
            )
    finally:  # what was done before a full disk, or Ctrl-C, is done
        if found:
            about(bundles=[one.content_digest for one in found if one.content_digest is not None])
            _print(found, output_format)
    refused = [one for one in found if one.outcome == "refused"]
    partly(len(refused), len(found))
    for one in refused:
        click.echo(f"refused: {one.reason}", err=True)
    if refused:
        sys.exit(exits.PARTLY_DONE if len(refused) < len(found) else InputRefused.exit_code)


def _rekey(directory: Path, dry_run: bool) -> None:
    """What is refused here cannot be opened by the compression either, which lists it."""
    from model_forensics.pipeline.bookkeeping import about  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.rekey import Keys, rekey_directory  # noqa: PLC0415

    options.contradiction("--rekey", {"--dry-run": dry_run})
    rewritten: list[str] = []
    try:
        for item in rekey_directory(directory, Keys.of_process()):
            rewritten += [] if item.digest is None else [item.digest]
    finally:
        about(rekeyed=rewritten)


def _print(found: Sequence[Compression], output_format: str) -> None:
    if output_format == "json":
        click.echo(json.dumps({"bundles": [asdict(one) for one in found], "total": _total(found)}, indent=2))
    else:
        _print_table(found)


def _total(found: Sequence[Compression]) -> dict[str, int]:
    """Bundles by outcome, and the bytes of those that were, or would be, compressed."""
    compressed = [one for one in found if one.outcome in ("compressed", "would_compress")]
    outcomes = sorted({one.outcome for one in found})
    return {
        **{outcome: sum(one.outcome == outcome for one in found) for outcome in outcomes},
        "bytes_before": sum(one.before or 0 for one in compressed),
        "bytes_after": sum(one.after or 0 for one in compressed),
    }


def _print_table(found: Sequence[Compression]) -> None:
    from rich.console import Console  # noqa: PLC0415  (rich loads late)
    from rich.table import Table  # noqa: PLC0415

    table = Table("bundle", "outcome", "bytes before", "bytes after", box=None)
    for one in found:
        if one.outcome in _REWRITTEN:
            table.add_row(Path(one.path).name, one.outcome.replace("_", " "), _bytes(one.before), _bytes(one.after))
    console = Console()
    if table.row_count:
        console.print(table) if console.is_terminal else Console(width=160).print(table)
    total = _total(found)
    before, after = total.pop("bytes_before"), total.pop("bytes_after")
    counts = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in total.items())
    verb = "would become" if "would_compress" in total else "became"
    saved = f"; {before:,} bytes {verb} {after:,}" if before else ""
    click.echo(f"{counts}{saved}")


def _bytes(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
