"""Points in time as people write them: `24h`, `7d`, `2026-01-31`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from model_forensics.errors import UsageError

_PERIOD = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_since(text: str, now: datetime) -> datetime:
    """The moment that `text` names, in UTC.

    Args:
        text: a number and s, m, h, d or w, counted back from `now`; or an ISO date or time, local unless it has a zone.
        now: with a time zone.

    Raises:
        UsageError: neither of these, before year 1, or after `now`.
    """
    try:
        period = _PERIOD.fullmatch(text.strip())
        if period is not None:
            return now.astimezone(UTC) - timedelta(seconds=float(period[1]) * _SECONDS[period[2]])
        moment = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise UsageError(
            f"{text!r} is no period and no date",
            where="since",
            cure="Write a number and s, m, h, d or w (24h), or an ISO date (2026-01-31, 2026-01-31T08:00+01:00)",
        ) from problem
    if moment > now:
        raise UsageError(f"{text!r} lies in the future", where="since", cure="Give a moment that has passed")
    return moment
