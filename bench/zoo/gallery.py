"""`python -m bench.zoo gallery`: the pictures and quoted words of docs/gallery.md, from the incidents' own reports.

The page names its incidents in its markers; what stands between them is written here: the heat map of the report, as a
picture beside the page, and what the terminal says first. The results are beside the page too, so that a test writes it
again.
"""

from __future__ import annotations

import re
from pathlib import Path

from model_forensics.report import read_json_result, render_html, render_text
from model_forensics.types import AnalysisResult

PAGE = Path("docs/gallery.md")
_MARKED = re.compile(r"<!-- incident: (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
_HEAT_MAP = re.compile(r'<svg (?P<head>viewBox="[^"]+" role="img")>(?P<body><title>Heat map.*?)</svg>', re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_DRAWN_WITH = re.compile(r"^(svg |\.c\d|\.k\d|\.absent-cell)")


def write(root: Path, page: Path = PAGE) -> list[str]:
    """Takes over the results of the page's incidents and writes what follows from them; names of the incidents.

    Raises:
        FileNotFoundError: an incident of the page was not run.
    """
    names = incidents(page.read_text())
    beside(page).mkdir(exist_ok=True)
    for name in names:
        found = (root / "results" / f"{name}.json").read_text()
        found = found.replace(str(root.resolve()), "zoo")  # where it was is of no use
        (beside(page) / f"{name}.json").write_text(found)
        (beside(page) / f"{name}.svg").write_text(picture(render_html(_result(page, name))))
    page.write_text(filled(page))
    return names


def incidents(text: str) -> list[str]:
    return [found["name"] for found in _MARKED.finditer(text)]


def beside(page: Path) -> Path:
    """Where the page's results and pictures are."""
    return page.parent / page.stem


def filled(page: Path) -> str:
    """The page's text, with what its incidents' results say."""
    return _MARKED.sub(lambda found: _block(page, found["name"]), page.read_text())


def _result(page: Path, name: str) -> AnalysisResult:
    return read_json_result(beside(page) / f"{name}.json")


def _block(page: Path, name: str) -> str:
    said = "\n\n".join(render_text(_result(page, name)).split("\n\n")[:2])
    return (
        f"<!-- incident: {name} -->\n```\n{said}\n```\n\n"
        f"![Excess bits by site and token, {name}]({page.stem}/{name}.svg)\n\n"
        f"[The result in full]({page.stem}/{name}.json)\n<!-- end -->"
    )


def picture(html: str) -> str:
    """The heat map of a report as a file of its own, light and dark.

    Raises:
        ValueError: the report has none.
    """
    drawn, style = _HEAT_MAP.search(html), _STYLE.search(html)
    if drawn is None or style is None:
        raise ValueError("the report has no heat map: its incident was recorded without tokens")
    rules = style[1]
    colours = rules[: rules.index("* { box-sizing")]
    own = "\n".join(line for line in rules.splitlines() if _DRAWN_WITH.match(line))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {drawn["head"]}>\n<style>{colours}{own}\n'
        f"svg {{ background: var(--paper); }}</style>\n{drawn['body']}</svg>\n"
    )
