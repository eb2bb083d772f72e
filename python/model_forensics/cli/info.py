"""`model-forensics info`"""

from __future__ import annotations

import json

import click

from model_forensics.cli import options


@click.command("info")
@options.output_format
def command(output_format: str) -> None:
    """Show versions, devices and which backend serves which operation, with the reason where one cannot.

    \b
    Example:
      model-forensics info --format json
    """
    from model_forensics.health import describe  # noqa: PLC0415  (keeps --help fast)

    facts = describe()
    if output_format == "json":
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"health: {facts['health']['status']}")
    for problem in facts["health"]["problems"]:
        click.echo(f"  {problem}")
    for name, value in facts["versions"].items():
        click.echo(f"{name}: {value or 'not installed'}")
    click.echo(f"devices: {', '.join(facts['devices'])}")
    for operation, backends in facts["backends"].items():
        click.echo(f"{operation}: " + "; ".join(f"{backend} {state}" for backend, state in backends.items()))
