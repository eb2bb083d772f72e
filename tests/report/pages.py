"""Reading a page as strictly as it should have been written."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "col", "hr"}
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&'\x00\x1b[2J\u202e${title}$style"
LOADS = ("http:", "https:", "//", "src=", "@import", "url(", "<script", "<link", "<img", "<iframe", "xlink")
"""What none of our pages holds: each would, or could, load something."""


class Page(HTMLParser):
    """Checks nesting while it reads, and keeps what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"{tag} repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        name = dict(attrs).get("id")
        if name is not None:
            assert name not in self.ids
            self.ids.add(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
