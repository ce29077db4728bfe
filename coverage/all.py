"""Run every case, or some, and write docs/coverage.md.

python coverage/all.py                        # all, and write the page
python coverage/all.py --only openai/ siglip  # ids and architectures with one of the words; write nothing
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

LIB = Path(__file__).parents[1] / "tests" / "lib"
sys.path.append(str(LIB))  # small checkpoints and the stand-in hub are those of the tests

import architectures  # noqa: E402
import case  # noqa: E402
import clip_like_types  # noqa: E402
import isolated  # noqa: E402
import recipes  # noqa: E402
import table  # noqa: E402
from case import Row  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
LIMIT_S = 300.0
PACKAGES = ("huggingface-hub", "transformers", "torch")


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return 1 if a case is wrong or failed."""
    options = parser().parse_args(argv)
    hubs = ran(case.tried, [recipe.id for recipe in recipes.RECIPES], options.only)
    built = ran(architectures.tried, architectures.names(), options.only)
    types = [] if options.only else by_type(hubs)
    if not options.only:
        versions = ", ".join([f"open_clip {architectures.version()}", *(f"{name} {version(name)}" for name in PACKAGES)])
        PAGE.write_text(table.document(hubs, types, built, versions, case.LEAST_COSINE), encoding="utf-8")
    print(table.summary({"hub ids": hubs, "model types of transformers": types, "architectures of open_clip": built}))
    return int(any(row.verdict in {"wrong", "failed"} for row in (*hubs, *built)))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", nargs="*", default=[], metavar="WORD", help="cases whose name has one of the words")
    return made


def ran(tried: isolated.Case, names: Sequence[str], words: Sequence[str]) -> list[Row]:
    """Run the cases that a word asks for, or all, and tell each when it is over."""
    asked = [name for name in names if not words or any(word in name for word in words)]
    rows = []
    for name in asked:
        row = isolated.run(tried, name, LIMIT_S)
        result = f"{row.verdict} {row.cosine:.6f}" if row.verdict == "exact" else f"{row.verdict}: {row.why}"
        print(f"{time.strftime('%H:%M:%S')} {name} {row.seconds:.1f} s {result}", flush=True)
        rows.append(row)
    return rows


def by_type(hubs: Sequence[Row]) -> list[Row]:
    """Return a row for each type of transformers: the first hub id of it that is exact, or the first."""
    rows = []
    for model_type in clip_like_types.names():
        of_type = [row for row in hubs if row.model_type.replace("_", "-") == model_type.replace("_", "-")]
        best = next((row for row in of_type if row.verdict == "exact"), next(iter(of_type), None))
        rows.append(replace(best or Row("", "refused", why="no recipe is of this type"), model_type=model_type))
    return rows


if __name__ == "__main__":
    sys.exit(main())
