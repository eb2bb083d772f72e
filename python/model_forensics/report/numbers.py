"""Numbers and names as people read them. The measured values themselves stay in `results.json`."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from model_forensics.types import Interval

NOT_MEASURED = "not measured"

# Control, invisible and direction-changing characters: a name that holds them could repaint a terminal or read as
# another name.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean(text: str, limit: int = 300) -> str:
    """`text` safe to show: hidden characters written as `\\u{…}`, at most `limit` characters."""
    text = middle(text, limit)
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(
        f"\\u{{{ord(character):x}}}" if unicodedata.category(character) in _HIDDEN else character for character in text
    )
    return middle(shown, limit)


def middle(text: str, width: int) -> str:
    """`text` in at most `width` characters, the middle left out: both ends of a module path tell it apart."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def labels(names: Sequence[str], width: int) -> list[str]:
    """Names for a list, each in at most `width` characters.

    Where names are too long, the dotted parts that all long ones share at both ends are left out first: module paths
    of one model differ in the middle, which plain shortening would take away.
    """
    long = [name.split(".") for name in names if len(name) > width]
    head = _shared(long)
    tail = _shared([parts[head:][::-1] for parts in long])
    shown = []
    for name in names:
        short = name
        if len(name) > width and len(long) > 1:
            parts = name.split(".")
            short = ("…" if head else "") + ".".join(parts[head : len(parts) - tail]) + ("…" if tail else "")
        shown.append(middle(clean(short), width))
    return shown


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """Leading parts that all paths share; each path keeps at least one part."""
    count = 0
    while paths and all(len(path) > count + 1 and path[count] == paths[0][count] for path in paths):
        count += 1
    return count


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits; thousands separated."""
    if value is None:
        return NOT_MEASURED
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("infinite" if value > 0 else "minus infinite")
    if abs(value) >= 10**digits or value == int(value):
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.{digits - 1}e}"
    return f"{value:.{digits}g}"


def fixed(value: float | None, places: int) -> str:
    """`places` decimals, for columns that are read downwards."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:,.{places}f}" if abs(value) < 1e9 else number(value)


def rate(value: float | None) -> str:
    """A share with two decimals that never rounds to a certainty: 0.997 is `>0.99`, 0.002 is `<0.01`."""
    if value is None or not math.isfinite(value):
        return number(value)
    if 0 < value < 0.005:
        return "<0.01"
    if 0.995 <= value < 1:
        return ">0.99"
    return f"{value:.2f}"


def probability(value: float | None) -> str:
    """A p-value; below 0.0001 the digits say nothing to a reader."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value < 0.0001:
        return "<0.0001"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def interval(value: Interval) -> str:
    """`95 % interval 0.74–1.00`."""
    return f"{number(100 * value.level)} % interval {rate(value.low)}–{rate(value.high)}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listing(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def size(count: int | None) -> str:
    """Bytes in binary units."""
    if count is None:
        return NOT_MEASURED
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{number(value)} {unit}"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if not math.isfinite(seconds) or seconds < 60:
        return f"{number(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
