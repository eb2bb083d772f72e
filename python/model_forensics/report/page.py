"""The frame of every page: no script, no network, inline style."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from model_forensics.report.markup import Markup, element


def whole_page(title: str, body: Markup) -> str:
    """A self-contained HTML page with a light, a dark and a print form; the title is escaped."""
    folder = files("model_forensics.report")
    page = Template(folder.joinpath("page.html").read_text(encoding="utf-8"))
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    escaped = element("span", title).removeprefix("<span>").removesuffix("</span>")
    return page.substitute(title=escaped, style=style, body=body)
