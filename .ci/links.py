"""Links of the documents to the repository's files and headings: `python .ci/links.py` names those that lead nowhere.

Addresses on the internet aren't asked: a check that needs a network fails for reasons that aren't ours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from urllib.parse import unquote

from documents import ROOT, Piece, anchors, links, tracked

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def main() -> None:
    """Report broken links; exit with 1 if there are any."""
    broken = [f"{link}: {link.content} {reason}" for link, reason in broken_links()]
    print("\n".join([*broken, f"{len(broken)} broken links"]), file=sys.stderr if broken else sys.stdout)
    sys.exit(1 if broken else 0)


def broken_links() -> Iterator[tuple[Piece, str]]:
    """Yield each link that leads nowhere, and the reason."""
    files = set(tracked())
    for link in links():
        if not _ADDRESS.match(link.content) and (reason := trouble(link, files)):
            yield link, reason


def trouble(link: Piece, files: set[str]) -> str:
    """Return the reason why a relative link leads nowhere; none if it leads somewhere."""
    target, _, anchor = unquote(link.content).partition("#")
    path = (link.document.parent / target).resolve() if target else link.document
    if not path.is_relative_to(ROOT):
        return "leaves the repository"
    name = path.relative_to(ROOT).as_posix()
    if name not in files and not any(file.startswith(f"{name}/") for file in files):
        return "isn't a file or folder of the repository"
    if anchor and (path.suffix != ".md" or anchor not in anchors(path)):
        return "has no such heading"
    return ""


if __name__ == "__main__":
    main()
