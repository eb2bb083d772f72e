"""`model-forensics info`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from model_forensics.cli import options


@click.command("info")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration, and nothing else.")
@click.option(
    "--verify-audit", "audit", metavar="FILE", type=options.EXISTING, help="Check every line of an audit log."
)
@options.device
@options.common_with("table", "json", audited=False)
def command(schema: bool, audit: Path | None, device: str | None, output_format: str, quiet: bool) -> None:
    """Show versions, devices, which backend serves which operation (with the reason where one cannot), and the
    configuration with where each value came from.

    \b
    Examples:
      model-forensics info --format json
      model-forensics info --config model-forensics.yaml
      model-forensics info --schema > model-forensics.schema.json
      model-forensics info --verify-audit audit.jsonl
    """
    options.contradiction("--schema", {"--verify-audit": schema and audit})
    loaded = options.load({"device": device})
    if schema:
        from model_forensics.config import Config  # noqa: PLC0415  (keeps --help fast)

        click.echo(json.dumps(Config.model_json_schema(), indent=2))
        return
    if audit is not None:
        _verify(audit, output_format)
        return
    from model_forensics.health import describe  # noqa: PLC0415  (keeps --help fast)

    facts = describe(loaded)
    click.echo(json.dumps(facts, indent=2) if output_format == "json" else _in_words(facts))


def _verify(audit: Path, output_format: str) -> None:
    from model_forensics.store import AuditLog  # noqa: PLC0415  (keeps --help fast)

    found = AuditLog(audit).verify()
    if output_format == "json":
        click.echo(json.dumps({"audit_log": str(audit), **asdict(found)}, indent=2))
        return
    click.echo(f"{audit}: {found.lines} lines, none changed, removed or moved; the last has hash {found.last}")
    if found.unfinished:
        click.echo(f"  {found.unfinished} actions have no end: running still, or killed")
    if found.torn:
        click.echo(f"  {found.torn} bytes at the end are of a line that a killed writer did not finish")


def _in_words(facts: dict[str, Any]) -> str:
    lines = [f"health: {facts['health']['status']}"]
    lines += [f"  {problem}" for problem in facts["health"]["problems"]]
    lines += [f"{name}: {value or 'not installed'}" for name, value in facts["versions"].items()]
    lines.append(f"devices: {', '.join(facts['devices'])}")
    for operation, backends in facts["backends"].items():
        lines.append(f"{operation}: " + "; ".join(f"{backend} {state}" for backend, state in backends.items()))
    configuration = facts["configuration"]
    lines.append(f"configuration: {configuration['file'] or 'no file'}")
    values = configuration["values"]
    shown = {key: json.dumps(entry["value"], ensure_ascii=False) for key, entry in values.items()}
    widths = max(map(len, values)), max(len(text) for text in shown.values() if len(text) < 40)
    lines += [
        f"  {key:<{widths[0]}}  {shown[key]:<{widths[1]}}  {entry['from']}".rstrip() for key, entry in values.items()
    ]
    lines += [f"  {name}: {value}" for name, value in configuration["variables"].items()]
    return "\n".join(lines)
