"""`python -m bench.zoo gallery`: the pictures and quoted words of docs/gallery.md, from the incidents' own reports.

The page names its incidents in its markers; what stands between them is written here: the heat map of the report, as a
picture beside the page, and what the terminal says first.
"""

from __future__ import annotations

import re
from pathlib import Path

from model_forensics.report import read_json_result, render_html, render_text

PAGE = Path("docs/gallery.md")
PICTURES = PAGE.parent / "gallery"
_MARKED = re.compile(r"<!-- incident: (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
_HEAT_MAP = re.compile(r'<svg (?P<head>viewBox="[^"]+" role="img")>(?P<body><title>Heat map.*?)</svg>', re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_DRAWN_WITH = re.compile(r"^(svg |\.c\d|\.k\d|\.absent-cell)")


def write(root: Path, page: Path = PAGE) -> list[str]:
    """Fills the page and writes its pictures; names of the incidents.

    Raises:
        FileNotFoundError: an incident of the page was not run.
    """
    text = page.read_text()
    names = [found["name"] for found in _MARKED.finditer(text)]
    page.write_text(_MARKED.sub(lambda found: _block(root, page, found["name"]), text))
    return names


def _block(root: Path, page: Path, name: str) -> str:
    result = read_json_result(root / "results" / f"{name}.json")
    pictures = page.parent / page.stem
    pictures.mkdir(exist_ok=True)
    (pictures / f"{name}.svg").write_text(picture(render_html(result)))
    said = "\n\n".join(render_text(result).split("\n\n")[:2])
    return (
        f"<!-- incident: {name} -->\n```\n{said}\n```\n\n"
        f"![Excess bits by site and token, {name}]({page.stem}/{name}.svg)\n<!-- end -->"
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
