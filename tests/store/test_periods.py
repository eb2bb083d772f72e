from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from model_forensics.errors import UsageError
from model_forensics.store import parse_since

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(days=1)),
        ("1.5 h", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_periods_count_back_from_now(text, ago):
    assert parse_since(text, NOW) == NOW - ago


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-28T23:00:00+01:00", datetime(2026, 2, 28, 22, tzinfo=UTC)),
        ("2026-02-28T22:00Z", datetime(2026, 2, 28, 22, tzinfo=UTC)),
        ("2026-02-27", datetime(2026, 2, 27).astimezone(UTC)),
    ],
)
def test_dates_are_local_unless_they_say_otherwise(text, moment):
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "24", "-3h", "3 hours", "1e3h", "٣h", "999999999w", "2026-13-01"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(UsageError, match="no period and no date"):
        parse_since(text, NOW)


def test_the_future_is_refused():
    with pytest.raises(UsageError, match="lies in the future"):
        parse_since("2026-03-02T00:00Z", NOW)
