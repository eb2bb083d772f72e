"""`model-forensics inspect`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from model_forensics.cli import options


@click.command("inspect")
@click.argument("bundle", type=options.EXISTING)
@options.common
def command(bundle: Path, output_format: str, quiet: bool) -> None:
    """Check BUNDLE, digests included, and show what it holds.

    \b
    Example:
      model-forensics inspect incident/
    """
    from model_forensics.bundle import load_bundle  # noqa: PLC0415
    from model_forensics.pipeline.bookkeeping import about  # noqa: PLC0415  (keeps --help fast)

    recording = load_bundle(bundle)
    about(bundle=recording.content_digest)
    description = recording.describe()
    click.echo(json.dumps(description, indent=2) if output_format == "json" else _in_words(description))


_SIZES = {"bytes": "size on disk", "content_bytes": "size of its content", "activation_bytes": "size of activations"}


def _in_words(description: dict[str, Any]) -> str:
    from model_forensics import report  # noqa: PLC0415  (keeps --help fast)

    shown = {_SIZES.get(key, key): report.size(value) if key in _SIZES else value for key, value in description.items()}
    return _in_lines(shown)


def _in_lines(description: dict[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in description.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", _in_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [f"{indent}{key}:", *(f"{indent}  {_in_one_line(item)}" for item in value)]
        else:
            lines.append(f"{indent}{key}: {'–' if value is None else value}")
    return "\n".join(lines)


def _in_one_line(item: object) -> str:
    if isinstance(item, dict):
        return "  ".join(f"{key}={value}" for key, value in item.items() if value is not None)
    return str(item)
