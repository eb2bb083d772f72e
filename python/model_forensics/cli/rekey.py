"""`model-forensics rekey`"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from model_forensics.cli import exits, options
from model_forensics.errors import InputRefused


@click.command("rekey")
@click.argument("directory", type=options.EXISTING)
@click.option("--decrypt", is_flag=True, help="Store everything plain, instead of encrypting it.")
@options.common
def command(directory: Path, decrypt: bool, output_format: str, quiet: bool) -> None:
    """Encrypt the bundles, baselines, results and reports under DIRECTORY with a new key.

    The new key is MODEL_FORENSICS_ENCRYPTION_KEY, the one before it MODEL_FORENSICS_OLD_ENCRYPTION_KEY, or "none". What
    is plain is encrypted. Each item is proven before the original goes; after a kill, run the same command again. Items
    that are refused are listed, and the exit code is 4; 3 when all are.

    \b
    Example:
      MODEL_FORENSICS_OLD_ENCRYPTION_KEY=none model-forensics rekey bundles/
    """
    from model_forensics.pipeline.bookkeeping import about, partly  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.rekey import Keys, rekey_directory  # noqa: PLC0415

    items = []
    try:
        for item in rekey_directory(directory, Keys.of_process(decrypt=decrypt)):
            items.append(item)
            if item.reason is not None:
                click.echo(f"refused: {item.reason}", err=True)
            elif not quiet and output_format == "table":
                click.echo(f"{item.outcome}: {item.path}")
    finally:  # what was done before a full disk, or Ctrl-C, is done
        about(rekeyed=[item.digest for item in items if item.digest is not None])
    counts = Counter(item.outcome for item in items)
    if output_format == "json":
        click.echo(json.dumps([asdict(item) for item in items], indent=2))
    else:
        click.echo(f"{counts['rewritten']} rewritten, {counts['unchanged']} unchanged, {counts['refused']} refused")
    partly(counts["refused"], len(items))
    if counts["refused"]:
        sys.exit(exits.PARTLY_DONE if counts["refused"] < len(items) else InputRefused.exit_code)
