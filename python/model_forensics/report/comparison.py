"""Two incidents or results side by side, for the terminal and as a page."""

from __future__ import annotations

from model_forensics.report.markup import Column, Markup, element, join, table
from model_forensics.report.numbers import clean, number
from model_forensics.report.page import render_page
from model_forensics.types import ComparedSection, Comparison, Scalar

_LISTED = 20
_LISTED_ON_PAGE = 2000
_KEY_WIDTH = 72
_VALUE_WIDTH = 72


def render_comparison_text(comparison: Comparison) -> str:
    """What differs, a heading and a short table for each part; no trailing newline."""
    blocks = [f"A  {clean(comparison.left)}\nB  {clean(comparison.right)}", f"{_headline(comparison)}."]
    blocks += [_block(one) for one in comparison.sections]
    return "\n\n".join(blocks)


def render_comparison_html(comparison: Comparison) -> str:
    """The whole comparison as one self-contained page."""
    title = _headline(comparison)
    opening = element(
        "header",
        element("p", f"Comparison of two {comparison.kind}", class_="eyebrow"),
        element("h1", title),
        element("p", f"A: {clean(comparison.left)} · B: {clean(comparison.right)}", class_="lead"),
    )
    parts = [_section(place, one) for place, one in enumerate(comparison.sections)]
    return render_page(title, join([opening, *parts]))


def _headline(comparison: Comparison) -> str:
    if not comparison.differ:
        return f"The two {comparison.kind} agree"
    found = [one.title.lower() for one in comparison.sections if one.counts and one.differences]
    return f"The two {comparison.kind} differ in {', '.join(found)}"


def _summary(one: ComparedSection) -> str:
    note = None if one.note is None else clean(one.note)
    if note is not None and not one.compared:
        return note
    count = len(one.differences)
    told = f"{count:,} of {one.compared:,} differ" if count else f"same ({one.compared:,} compared)"
    return told if note is None else f"{told}; {note}"


def _block(one: ComparedSection) -> str:
    lines = [f"{one.title}: {_summary(one)}"]
    shown = one.differences[:_LISTED]
    cells = [(clean(d.key, _KEY_WIDTH), _value(d.left), _value(d.right)) for d in shown]
    widths = [max((len(row[place]) for row in cells), default=0) for place in (0, 1)]
    lines += [f"  {key:<{widths[0]}}  {a:<{widths[1]}}  {b}".rstrip() for key, a, b in cells]
    if len(one.differences) > _LISTED:
        lines.append(f"  … and {len(one.differences) - _LISTED:,} more (--format json lists all)")
    return "\n".join(lines)


def _section(place: int, one: ComparedSection) -> Markup:
    rows = [(clean(d.key), _value(d.left), _value(d.right)) for d in one.differences[:_LISTED_ON_PAGE]]
    left_out = len(one.differences) - len(rows)
    return element(
        "section",
        element("h2", one.title),
        _table(place, rows, _summary(one)) if rows else element("p", _summary(one)),
        element("p", f"{left_out:,} more are in the JSON.") if left_out else None,
    )


def _table(place: int, rows: list[tuple[str, str, str]], caption: str) -> Markup:
    return table([Column("what"), Column("A"), Column("B")], rows, name=f"part-{place}", caption=caption)


def _value(value: Scalar) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, 6)
    return clean(value, _VALUE_WIDTH)
