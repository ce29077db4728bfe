"""Site of the documents: pages are copied to artifacts/site, made fit for a site, and built.

python .ci/build_site.py            # to artifacts/site/html
python .ci/build_site.py --serve    # and look at it, at http://127.0.0.1:8010

The builder checks links within the site, `links.py` all of the repository's. A link to a file that isn't in the site becomes
its path. Drawings become pictures here, since a browser would load the library that draws them from somewhere else.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from documents import ROOT, SITE

PAGES = ROOT / "artifacts" / "site" / "pages"
HTML = ROOT / "artifacts" / "site" / "html"
PORT = 8010
ELSEWHERE = {"examples/emoji/README.md": "emoji-clip.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Documents outside of docs/ -> their pages."""
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^]]*)\]\((?P<target>[^)\s]+)\)")
_DRAWING = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(https?:[^"'> ]+)|"""
    r"""<link\b(?![^>]*\brel=["']?(?:canonical|next|prev))[^>]*\bhref=["']?(https?:[^"'> ]+)"""
)


def main() -> None:
    """Stage the pages, build them, and serve them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help=f"serve it at http://127.0.0.1:{PORT} until Ctrl-C")
    options = parser.parse_args()
    stage()
    build()
    if options.serve:
        serve()


def stage() -> None:
    """Copy the documents and what they show, fit for the site."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(SITE, PAGES)
    for document in [*SITE.rglob("*.md"), *(ROOT / name for name in ELSEWHERE)]:
        text = drawn(document, document.read_text(encoding="utf-8"))
        (PAGES / place(document)).write_text(fit(document, text), encoding="utf-8")
    (PAGES / "decisions" / "index.md").write_text(decisions(), encoding="utf-8")


def place(path: Path) -> Path | None:
    """Return the place in the site of a file or folder of the repository, if it has one."""
    if path.is_dir():
        path = path / ("index.md" if path.is_relative_to(SITE) else "README.md")
    if path.is_relative_to(SITE):
        return path.relative_to(SITE)
    page = ELSEWHERE.get(path.relative_to(ROOT).as_posix())
    return Path(page) if page else None


def fit(document: Path, text: str) -> str:
    """Return a document whose links lead to pages of the site; others become plain paths."""
    home = (place(document) or Path()).parent

    def moved(link: re.Match[str]) -> str:
        target, mark, anchor = link["target"].partition("#")
        path = (document.parent / target).resolve()
        if not target or ":" in target or not path.is_relative_to(ROOT):
            return link[0]
        page = place(path)
        if page is None:
            return f"{link['text']} (`{path.relative_to(ROOT).as_posix()}`)"
        return f"{link['picture']}[{link['text']}]({os.path.relpath(page, home)}{mark}{anchor})"

    return _LINK.sub(moved, text)


def drawn(document: Path, text: str) -> str:
    """Return a document whose drawings are pictures beside its page."""
    import mermaidx  # which nothing else needs

    for number, drawing in enumerate(_DRAWING.findall(text), 1):
        name = f"{document.stem}-{number}.svg"
        picture = mermaidx.render(drawing).svg().replace("background-color: transparent", "background-color: white", 1)
        (PAGES / (place(document) or Path())).with_name(name).write_text(picture, encoding="utf-8")
        text = _DRAWING.sub(f"![The drawing of this page]({name})", text, count=1)
    return text


def decisions() -> str:
    """Return the list of the decisions."""
    pages = sorted((SITE / "decisions").glob("0*.md"))
    titles = [path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for path in pages]
    lines = [f"- [{title}]({path.name})" for path, title in zip(pages, titles, strict=True)]
    return "\n".join(["# Decisions", "", "Choices that somebody may ask about, each with its reasons.", "", *lines, ""])


def build() -> None:
    """Build the pages; exit with a message for a broken link, or for a page that loads something from elsewhere."""
    builder = [sys.executable, "-m", "mkdocs", "build", "--clean", "--strict"]
    ended = subprocess.run(builder, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{ended.stdout}{ended.stderr}the site wasn't built")
    if addresses := foreign():
        sys.exit(f"the site loads {', '.join(addresses)} from elsewhere: remove it, or keep a copy here")
    print(f"the site is in {HTML.relative_to(ROOT)}; look at it: make docs ARGS=--serve")


def foreign() -> list[str]:
    """Return the addresses elsewhere that the built pages load something from."""
    pages = (page.read_text(encoding="utf-8") for page in HTML.rglob("*.html"))
    return sorted({address for page in pages for match in _LOADED.findall(page) for address in match if address})


def serve() -> None:
    """Serve the site until Ctrl-C."""
    with ThreadingHTTPServer(("127.0.0.1", PORT), partial(SimpleHTTPRequestHandler, directory=HTML)) as server:
        print(f"http://127.0.0.1:{PORT}, Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
