"""Check the built pages: links inside the book, pictures' descriptions, nothing from outside."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"


class Page(HTMLParser):
    """The links, targets and pictures of one page."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.targets, self.links, self.loaded, self.pictures = {""}, [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Take down what an element refers to, and by which name it can be referred to."""
        attrs = dict(attrs)
        self.targets |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "link" and "stylesheet" in attrs.get("rel", ""):
            self.loaded.append(attrs["href"])
        if "src" in attrs:
            self.loaded.append(attrs["src"])
        if tag == "img" and "_images/" in attrs.get("src", ""):  # the theme's own are for show
            self.pictures.append((attrs["src"], attrs.get("alt") or ""))


def main():
    """Print each fault; the exit status is 0 if there is none."""
    pages = {path: Page(path) for path in page_paths()}
    faults = [fault for page in pages.values() for fault in page_faults(page, pages)]
    for fault in faults:
        print(fault)
    print(f"{len(pages)} pages checked, {len(faults)} faults in links and pictures.")
    return 1 if faults or not pages else 0


def page_paths():
    """The pages of the book; the theme leaves templates of its own in _static."""
    paths = sorted(HTML.rglob("*.html"))
    return [path for path in paths if "_static" not in path.parts]


def page_faults(page, pages):
    """What is wrong with one page, in sentences."""
    name = page.path.relative_to(HTML)
    for link in dict.fromkeys(page.links + page.loaded):
        if is_inside(link) and not leads_somewhere(link, page, pages):
            yield f"{name}: broken link to {link}"
    for source in page.loaded:
        if urlsplit(source).scheme in ("http", "https") or source.startswith("//"):
            yield f"{name}: loads {source}, but the book must work without a network"
    for source, words in page.pictures:
        if not words.strip() or words.endswith((".png", ".svg")):
            yield f'{name}: {source} has no description ("mystnb": {{"image": {{"alt": "..."}}}})'


def is_inside(link):
    """Whether a link should lead to a part of the book."""
    return not urlsplit(link).scheme and not link.startswith("//")


def leads_somewhere(link, page, pages):
    """Whether the file that a link names exists, and has the target it names."""
    parts = urlsplit(link)
    path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
    if path in pages:
        return unquote(parts.fragment) in pages[path].targets
    return path.is_file()


if __name__ == "__main__":
    sys.exit(main())
