"""Visitors of a collection of the bundled pictures, who search and click: `python examples/emoji/visitors.py --clicks 5000`.

Each wants one emoji and types a word for it that emoji-clip has never seen. A visitor looks at position k with the probability
1 / k (Joachims, Swaminathan and Schnabel, WSDM 2017) and clicks on the emoji when he sees it; one click in ten goes wrong.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from clip_client import Hits, Search, command_runner

PICTURES = Path(__file__).resolve().parent / "pictures"
SHOWN, WRONG, CLIENTS = 100, 0.1, 16
PHRASES = ("{}", "{} emoji", "a {}", "{} icon", "a picture of a {}")


def main() -> None:
    """Let visitors come until they have clicked so often."""
    options = parser().parse_args()
    with Search(options.url) as search, ThreadPoolExecutor(CLIENTS) as visitors:
        visits = islice(clicks(search, options.collection, random.Random(options.seed)), options.clicks)
        sent = [visitors.submit(search.feedback, options.collection, *visit, client=str(n)) for n, visit in enumerate(visits)]
        for answer in sent:
            answer.result()
        print(f"{len(sent)} clicks of {len(sent)} visitors are kept")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--url", default="http://localhost:1234", help="where the sidecar listens (default: %(default)s)")
    made.add_argument("--collection", default="emoji", metavar="NAME", help="of the bundled pictures (default: %(default)s)")
    made.add_argument("--clicks", type=int, default=1000, metavar="N", help="default: %(default)s")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of who comes (default: %(default)s)")
    return made


def clicks(search: Search, collection: str, draw: random.Random) -> Iterator[tuple[str, Hits, str]]:
    """Yield what each visitor who clicks had typed, was shown, and clicked on, without end."""
    emoji = pq.read_table(PICTURES / "captions.parquet", columns=["file_name", "held_out_keywords"]).to_pylist()
    wishes = [(word, row["file_name"]) for row in emoji for word in row["held_out_keywords"]]
    answers: dict[str, Hits] = {}
    while True:
        word, wanted = draw.choice(wishes)
        text = draw.choice(PHRASES).format(word)
        if text not in answers:
            answers[text] = search.query(collection, text, k=SHOWN, columns=[])
        ids = [hit.id for hit in answers[text]]
        place = ids.index(wanted) if wanted in ids else SHOWN
        if draw.random() * (place + 1) < 1 and place < SHOWN:
            clicked = draw.choices(ids, [1 / k for k in range(1, len(ids) + 1)])[0] if draw.random() < WRONG else wanted
            yield text, answers[text], clicked


if __name__ == "__main__":
    sys.exit(command_runner.run("visitors.py", main))
