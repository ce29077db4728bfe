"""Text of a release, from CHANGELOG.md, checked against the version that the package has.

python .ci/release_notes.py v0.1.0         # print the section of that version
python .ci/release_notes.py Unreleased     # what the next one would say
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNRELEASED = "Unreleased"
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Headings of a section, by https://keepachangelog.com/en/1.1.0/."""
_SECTION = re.compile(r"^## (?:\[(?P<linked>[^]]+)\]|(?P<plain>\S+))(?P<date> - \d{4}-\d{2}-\d{2})?$", re.M)
_KIND = re.compile(r"^### (.+)$", re.M)
_VERSION = re.compile(r'^version = "([^"]+)"$', re.M)


def main() -> None:
    """Print the section, or end with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", metavar="TAG", help=f"v and a version, or {UNRELEASED}")
    tag = parser.parse_args().tag
    version = tag if tag == UNRELEASED else tag.removeprefix("v")
    package = _VERSION.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if version != UNRELEASED and (package is None or package[1] != version):
        sys.exit(f"the tag is {tag}, and pyproject.toml has version {package and package[1]}: make them agree")
    print(section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version))


def section(changelog: str, version: str) -> str:
    """Return what a changelog says of a version; end the program if there is no such section, or it isn't in form."""
    heads = [*_SECTION.finditer(changelog)]
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        if (head["linked"] or head["plain"]) != version:
            continue
        text = changelog[head.end() : after.start() if after else None].strip()
        if version != UNRELEASED and not head["date"]:
            sys.exit(f"CHANGELOG.md has no date beside {version}: ## {version} - YYYY-MM-DD")
        if not text.startswith("### "):
            sys.exit(f"CHANGELOG.md has nothing below ## {version}, or no heading of a kind before it: ### {KINDS[0]}, say")
        if odd := sorted({*_KIND.findall(text)} - {*KINDS}):
            sys.exit(f"CHANGELOG.md has the headings {', '.join(odd)} below ## {version}: expected {', '.join(KINDS)}")
        return text
    sys.exit(f"CHANGELOG.md has no section ## {version}: rename {UNRELEASED} to it, with the date")


if __name__ == "__main__":
    main()
