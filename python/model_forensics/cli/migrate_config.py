"""`model-forensics migrate-config`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from model_forensics.cli import options


@click.command("migrate-config")
@click.argument("file", type=options.EXISTING, required=False)
@click.option("--from", "old", type=click.Choice(["v1.0"]), default="v1.0", show_default=True, help="What it is.")
@click.option("--to", "new", type=click.Choice(["v1.1"]), default="v1.1", show_default=True, help="What it becomes.")
@options.common_with("table", "json", mends=True)
def command(file: Path | None, old: str, new: str, output_format: str, quiet: bool) -> None:
    """Bring the configuration FILE [the one in MODEL_FORENSICS_CONFIG] up to date.

    What it was is kept beside it, as FILE.v1.0.bak; what changes is printed. A file that is up to date stays as it is.

    \b
    Example:
      model-forensics migrate-config --from v1.0 --to v1.1 model-forensics.yaml
    """
    from model_forensics.config.migrate import migrate_file  # noqa: PLC0415
    from model_forensics.errors import UsageError  # noqa: PLC0415
    from model_forensics.pipeline.bookkeeping import about  # noqa: PLC0415  (keeps --help fast)

    path = file or options.configuration_file()
    if path is None:
        raise UsageError("no file is given", cure="Name it, or set MODEL_FORENSICS_CONFIG")
    done = migrate_file(path)
    about(files={"before": done.backup, "configuration": done.file})
    if output_format == "json":
        backup = None if done.backup is None else str(done.backup)
        shown = {"file": str(done.file), "from": old, "to": new, "backup": backup, "diff": done.diff}
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(done.diff, nl=False)
    if not quiet:
        told = f"{done.file} has version {new}" + (
            " already" if done.backup is None else f"; it was kept: {done.backup}"
        )
        click.echo(told, err=True)
