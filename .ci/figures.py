"""Figures of the documents, each from the file that a measurement wrote.

python .ci/figures.py            # fill them in
python .ci/figures.py --check    # name those that differ, and exit with 1

A figure stands before its mark, `5.0<!--=bulk-->`, which readers don't see; FIGURES has the source of each name.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import scale_figures
from documents import ROOT, documents
from measured import BENCHMARKS, cell, content, of_each

CARD = ROOT / "examples" / "emoji" / "figures.json"
_MARK = re.compile(r"(?P<value>[\d.,]*\d)<!--=(?P<name>[\w-]+)-->")


def main() -> None:
    """Fill in, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = [line for path in documents() for line in update(path, check)]
    word = ("differ: make docs" if stale else "differ") if check else "were changed"
    print("\n".join([*stale, f"{len(stale)} figures {word}"]))
    sys.exit(1 if check and stale else 0)


def update(path: Path, check: bool) -> Iterator[str]:
    """Write a document's figures anew unless only checked; yield a line for each that differs."""
    before = path.read_text(encoding="utf-8")
    after = _MARK.sub(lambda mark: f"{figure(mark['name'])}<!--={mark['name']}-->", before)
    if before != after and not check:
        path.write_text(after, encoding="utf-8")
    for number, (old, new) in enumerate(zip(before.splitlines(), after.splitlines(), strict=True), 1):
        for was, now in zip(_MARK.finditer(old), _MARK.finditer(new), strict=True):
            if was["value"] != now["value"]:
                yield f"{path.relative_to(ROOT)}:{number}: {was['name']} is {now['value']}, not {was['value']}"


def figure(name: str) -> str:
    """Return a figure as people read it.

    Raises:
        SystemExit: if there is none of that name.
    """
    if name not in FIGURES:
        sys.exit(f"no figure is called {name}: expected one of {', '.join(FIGURES)}")
    source, form = FIGURES[name]
    return format(source(), form)


def marks(text: str) -> list[str]:
    """Return the names of the figures in a text."""
    return [mark["name"] for mark in _MARK.finditer(text)]


def searches(program: str, column: str) -> Callable[[], float]:
    """Return the source of a figure of a search bench's program, such as ``clipserve, 8 clients``."""
    return partial(cell, "search", "text queries", (program,), column)


def faster(clients: str) -> Callable[[], float]:
    """Return the source of clipserve's queries a second, divided by clip-retrieval's."""
    return lambda: searches(f"clipserve, {clients}", "queries/s")() / searches(f"clip-retrieval, {clients}", "queries/s")()


def part(kind: str, *steps: str) -> Callable[[], float]:
    """Return the source of the milliseconds that steps of a request take together."""
    return lambda: sum(cell("breakdown", "ms", (step,), kind) for step in steps)


def memory(moment: str) -> Callable[[], float]:
    """Return the source of the memory in MB of a server with both towers."""
    return partial(cell, "scale", "memory, MB", (moment,), "in all")


def products(number: str) -> Callable[[], float]:
    """Return the source of the speed of bare matrix products in OpenVINO, as a multiple of that in float32."""
    speed = partial(cell, "limit", "products alone", column="billion operations/s")
    return lambda: speed((f"products in {number}, OpenVINO",)) / speed(("products in float32, OpenVINO",))


def judged(task: str, rank: str) -> Callable[[], float]:
    """Return the source of a figure of the bundled checkpoint's card."""
    return lambda: float(content(CARD)[task][rank])


def billion_hours(cores: int) -> float:
    """Return the hours that so many cores take for 10⁹ pictures, at the measured pace of a machine's cores in one process."""
    measured = content(BENCHMARKS / "peers.json")["machine"]["cores"]
    pace = cell("peers", "photos in bulk", ("the same engine in this process",), "photos/s")
    return 1e9 / (pace / measured * cores) / 3600


_SERVED = ("onnx-fp32", "openvino-fp16", "openvino-bf16", "openvino-int8")
_LOOP = partial(cell, "variants", "way", ("clipserve through Triton, INT8, one call",))
_BULKS = partial(cell, "peers", "photos in bulk")
_IN_PROCESS = partial(_BULKS, ("the same engine in this process",), "photos/s")
_BULK = partial(_BULKS, ("clip-retrieval inference",))
_SINGLES = ("peers", "single requests")

FIGURES: Mapping[str, tuple[Callable[[], float], str]] = {
    "loop": (partial(_LOOP, "times as fast"), ".1f"),
    "loop-rate": (partial(_LOOP, "photos/s"), ".0f"),
    "loop-photos": (lambda: float(content(BENCHMARKS / "variants.json")["setting"]["count"]), ".0f"),
    "int8-cosine": (partial(_LOOP, "cosine, mean"), ".4f"),
    "bulk": (partial(_BULK, "clipserve is × as fast"), ".1f"),
    "bulk-rate": (partial(_BULKS, ("clipserve through Triton",), "photos/s"), ".0f"),
    "bulk-peer-rate": (partial(_BULK, "photos/s"), ".0f"),
    "single-least": (partial(of_each, min, *_SINGLES, "×"), ".1f"),
    "single-most": (partial(of_each, max, *_SINGLES, "×"), ".1f"),
    "search-1": (faster("1 client"), ".1f"),
    "search-8": (faster("8 clients"), ".1f"),
    "search-rows": (lambda: float(content(BENCHMARKS / "search.json")["setting"]["rows"]), ",.0f"),
    "search-recall": (searches("clipserve, 8 clients", "recall@10"), ".3f"),
    "search-peer-recall": (searches("clip-retrieval, 8 clients", "recall@10"), ".3f"),
    "in-process": (partial(_BULKS, ("the same engine in this process",), "clipserve is × as fast"), ".2f"),
    "in-process-rate": (_IN_PROCESS, ".0f"),
    "billion-core-hours": (partial(billion_hours, 1), ",.0f"),
    "billion-256-cores": (partial(billion_hours, 256), ".0f"),
    "billion-1024-cores": (partial(billion_hours, 1024), ".1f"),
    "billion-4096-cores": (partial(billion_hours, 4096), ".1f"),
    **scale_figures.FIGURES,
    "exact": (partial(cell, "preprocessing", "JPEG 640 × 425", ("ours, exact",), "times as fast"), ".1f"),
    "memory-start": (memory("after the start"), ",.0f"),
    "memory-5000": (memory("after 5,000 requests"), ",.0f"),
    "memory-20000": (memory("after 20,000 requests"), ",.0f"),
    "products-bf16": (products("bfloat16"), ".1f"),
    "products-int8": (products("int8"), ".1f"),
    "limit-torch": (partial(cell, "limit", "variant", ("torch-fp32",), "at most"), ".2f"),
    **{f"limit-{name}": (partial(cell, "limit", "variant", (name,), "times torch-fp32"), ".2f") for name in _SERVED},
    **{f"most-{name}": (partial(cell, "limit", "variant", (name,), "at most"), ".2f") for name in _SERVED},
    "photo-ms": (part("image, 1 client", "in all"), ".1f"),
    "photo-encode-ms": (part("image, 1 client", "encode"), ".1f"),
    "photo-prepare-ms": (part("image, 1 client", "decode", "resize", "crop, hand-over"), ".1f"),
    "photo-client-ms": (part("image, 1 client", "client"), ".1f"),
    "photo-network-ms": (part("image, 1 client", "network", "copies"), ".1f"),
    "emoji-text-1": (judged("text_to_image", "r@1"), ".3f"),
    "emoji-text-5": (judged("text_to_image", "r@5"), ".3f"),
    "emoji-image-1": (judged("image_to_image", "r@1"), ".3f"),
    "emoji-keywords-10": (judged("keywords", "r@10"), ".3f"),
}
"""Name -> source and form of each figure that the documents quote."""


if __name__ == "__main__":
    main()
