"""HTML that is escaped by construction: text becomes markup only through `element`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_KEPT_TOGETHER = 8  # rows of a table that does not break across printed pages
_VOID = frozenset({"br", "col", "hr", "meta"})


class Markup(str):
    """Text that is already HTML. Every other string is escaped where it enters a page."""

    __slots__ = ()


Child = str | None
Attribute = str | int | float | None


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """One element. `None` children and attributes are left out; `class_` is `class`, `aria_label` is `aria-label`."""
    opening = tag + "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other; plain strings are escaped."""
    return Markup(
        "".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None)
    )


@dataclass(frozen=True)
class Column:
    """A table column; numeric ones are right-aligned with tabular figures."""

    label: str
    numeric: bool = False
    title: str | None = None  # what the heading means, for those who point at it


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Child]],
    *,
    name: str,
    caption: str,
    row_classes: Sequence[str] = (),
) -> Markup:
    """A table whose first cell of each row heads it.

    Args:
        columns: the headings.
        rows: cells, as many as columns.
        name: id of the table, unique on the page.
        caption: what the table shows. It stands above the box that scrolls, so that it wraps on narrow screens.
        row_classes: one class or "" for each row.
    """
    head = element(
        "tr",
        *(
            element("th", column.label, scope="col", class_="number" if column.numeric else None, title=column.title)
            for column in columns
        ),
    )
    body = []
    for place, row in enumerate(rows):
        cells = [
            element(
                "td" if index else "th",
                cell,
                class_="number" if column.numeric else None,
                scope=None if index else "row",
            )
            for index, (column, cell) in enumerate(zip(columns, row, strict=True))
        ]
        body.append(element("tr", *cells, class_=(row_classes[place] or None) if row_classes else None))
    label = f"{name}-caption"
    grid = element("table", element("thead", head), element("tbody", *body), id=name, aria_labelledby=label)
    return element(
        "div",
        element("p", caption, class_="caption", id=label),
        element("div", grid, class_="scroll"),
        class_="keep" if len(body) <= _KEPT_TOGETHER else None,
    )


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """A definition list: one label and one value a line."""
    return element(
        "dl",
        *(element("div", element("dt", label), element("dd", value)) for label, value in pairs),
        class_="facts",
    )
