"""Every link of the built book that stays inside of it leads somewhere, to the anchor it names."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors and links of one page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what an element is called, and what it refers to."""
        found = dict(attrs)
        self.anchors |= {name for key in ("id", "name") if (name := found.get(key))}
        self.links += [link for key in ("href", "src") if (link := found.get(key))]


def check(site: Path) -> list[str]:
    """Return a line for every link inside the site that leads nowhere."""
    pages = {file: Page(file) for file in site.rglob("*.html")}
    wrong = []
    for file, page in pages.items():
        for link in dict.fromkeys(page.links):
            where = urlsplit(link)
            if where.scheme or where.netloc:
                continue
            target = (file.parent / unquote(where.path)).resolve() if where.path else file
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else None
            anchor = unquote(where.fragment)
            if not target.exists() or (anchor and known is not None and anchor not in known):
                wrong.append(f"{file.relative_to(site)}: {link} leads nowhere")
    return wrong
