"""Durations on the command line: `90d`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    """Callback of an option: a number and a unit: s, m, h, d or w."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 90d, 24h or 30m", ctx, param)
    return timedelta(**{_UNITS[match[2]]: float(match[1])})
