"""What every page of HTML stands in: its head, its style, no script."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from model_forensics.report.markup import Markup, element


def render_page(title: str, body: Markup) -> str:
    """A self-contained page that loads nothing from anywhere; `title` is escaped."""
    folder = files("model_forensics.report")
    page = Template(folder.joinpath("page.html").read_text(encoding="utf-8"))
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    head = element("span", title).removeprefix("<span>").removesuffix("</span>")
    return page.substitute(title=head, style=style, body=body)
