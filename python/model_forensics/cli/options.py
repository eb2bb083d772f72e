"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from model_forensics.config import Config

EXISTING = click.Path(path_type=Path)  # existence is checked where the error can name a cure
COUNT = click.IntRange(min=1)
POSITIVE = click.FloatRange(min=0, min_open=True)

baseline = click.option(
    "--baseline",
    metavar="PATH",
    type=EXISTING,
    help="A fitted baseline, a benign bundle or a directory of them.",
)
model_factory = click.option(
    "--model-factory", metavar="PKG.MODULE:FUNCTION", help="Build models with this function, called with their source."
)
donor_values = click.option(
    "--donor-values", metavar="FILE", type=EXISTING, help="Activations to write, by site (safetensors)."
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
output_format = click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
quiet = click.option("--quiet", is_flag=True, help="No progress.")


def forensics_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--threshold`, `--methods`: how forensics judges."""
    for option in (
        click.option("--threshold", type=POSITIVE, help="Sites above this many sigma are anomalous."),
        click.option("--methods", metavar="LIST", help="Comma-separated: zlib, gzip, arithmetic."),
    ):
        function = option(function)
    return function


def forensics_settings(threshold: float | None, methods: str | None) -> dict[str, Any]:
    """The `modules.cf` section that these options ask for."""
    section: dict[str, Any] = {}
    if threshold is not None:
        section["anomaly_threshold"] = threshold
    if methods is not None:
        section["compression_methods"] = [name.strip() for name in methods.split(",")]
    return section


def configuration(settings: dict[str, Any]) -> Config:
    """The configuration that a command's options ask for.

    Raises:
        UsageError: a value is out of range; names its place in the configuration.
    """
    from model_forensics.config import Config  # noqa: PLC0415  (keeps --help fast)
    from model_forensics.errors import ConfigError, UsageError  # noqa: PLC0415

    try:
        return Config.from_dict(settings)
    except ConfigError as error:
        raise UsageError(error.what, where="options", cure="See the command's --help") from error


def contradiction(flag: str, others: dict[str, Any]) -> None:
    """Refuse options that another one makes meaningless.

    Raises:
        UsageError: some of `others` (name → value) were given; names them.
    """
    from model_forensics.errors import UsageError  # noqa: PLC0415  (keeps --help fast)

    given = [name for name, value in others.items() if value]
    if given:
        raise UsageError(f"{flag} contradicts {', '.join(given)}", cure="Leave one of them out")
