"""What `--profile` prints, on standard error."""

from __future__ import annotations

from pathlib import Path

import click

from model_forensics.profile import Profile, tables


def print_tables(profile: Profile, trace: Path) -> None:
    from rich.console import Console  # noqa: PLC0415  (rich loads late)
    from rich.table import Table  # noqa: PLC0415

    console = Console(stderr=True)
    console = console if console.is_terminal else Console(stderr=True, width=160)
    for header, rows in tables(profile):
        if rows:
            table = Table(*header, box=None)
            for row in rows:
                table.add_row(*row)
            console.print(table)
            click.echo(err=True)
    gpu = "" if profile.gpu_peak_bytes is None else f", {profile.gpu_peak_bytes / 1e6:.0f} MB on the GPU"
    if profile.gpu_seconds is not None:
        gpu += f", whose kernels and copies took {profile.gpu_seconds:.3f} s"
    click.echo(f"{profile.seconds:.3f} s, peak memory {profile.peak_bytes / 1e6:.0f} MB{gpu}", err=True)
    if profile.torch_seconds is not None:
        click.echo(f"torch operations: of {profile.torch_seconds:.1f} s from its first use on", err=True)
    if profile.left_out:
        click.echo(f"{profile.left_out} spans are in the tables and not in the trace", err=True)
    click.echo(f"Trace: {trace} (open it in ui.perfetto.dev or chrome://tracing)", err=True)
