"""``search feedback``: show, export or delete a collection's feedback."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from clip_client import command_runner
from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_client.feedback_answers import Answer, answers
from clip_client.feedback_calls import FeedbackBooks, FeedbackEvent
from clip_client.progress_bars import ProgressBar, say
from clip_client.search import Search
from clip_client.terminal import print_table, printable
from clip_search.cli.collections import is_agreed
from clip_search.cli.commands import batches, client
from clip_search.cli.feedback.export import write

_LOOKED_UP = 1_000  # ids in a request


def feedback(arguments: argparse.Namespace) -> int:
    """Print the latest answers with feedback, or write all to a file, or delete it."""
    if arguments.before is not None and not arguments.delete:
        raise InvalidInput("--before goes with --delete: it bounds what is deleted")
    with client(arguments) as search:
        if arguments.delete:
            return _delete(search, arguments)
        events, books = _events(search, arguments.collection)
        every = answers(events)
        if arguments.export:
            write(arguments.export, every, lambda ids: _sources(search, arguments.collection, ids))
            print(f"{counted(len(events), 'event')} = {counted(len(every), 'answer')} in {arguments.export}")
        else:
            _show(every, books, arguments)
    if not arguments.json:
        say(_summary(events, every, books))
    return 0


def events_of(search: Search, collection: str) -> list[FeedbackEvent]:
    """Return all feedback on a collection, behind a progress bar."""
    return _events(search, collection)[0]


def _events(search: Search, collection: str) -> tuple[list[FeedbackEvent], FeedbackBooks]:
    books, events = search.feedback_books(collection), []
    with ProgressBar(desc="reading", total=books.events, unit=" events") as bar:
        for event in search.kept_feedback(collection):
            events.append(event)
            bar.update(1)
    return events, books


def _sources(search: Search, collection: str, ids: Sequence[str]) -> Mapping[str, str | None]:
    return {row["id"]: row["source"] for part in batches(ids, _LOOKED_UP) for row in search.get(collection, part)}


def _show(every: Sequence[Answer], books: FeedbackBooks, arguments: argparse.Namespace) -> None:
    latest = every[-arguments.limit :]
    if arguments.json:
        print(json.dumps({"answers": [_listed(answer) for answer in latest], **vars(books)}))
    elif latest:
        rows = [(_told_time(answer), _query(answer), *_places(answer), answer.first.model[:8]) for answer in latest]
        print_table(("time", "query", "shown", "chosen", "right", "wrong", "model"), rows, figures=("shown",))


def _listed(answer: Answer) -> dict[str, object]:
    first = answer.first
    kept = {name: getattr(first, name) for name in ("query_id", "query", "text", "model", "space", "client")}
    lists = {name: list(getattr(answer, name)) for name in ("shown", "chosen", "marked_right", "marked_wrong")}
    return {**kept, "time": first.time.isoformat(), **lists}


def _places(answer: Answer) -> tuple[str, str, str, str]:
    """Return the length of the list, and the places in it that were chosen and marked, from 1."""
    chosen, right, wrong = (
        ", ".join(str(position + 1) for position in positions)
        for positions in (answer.chosen, answer.marked_right, answer.marked_wrong)
    )
    return str(len(answer.shown)), chosen, right, wrong


def _told_time(answer: Answer) -> str:
    return answer.first.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _query(answer: Answer) -> str:
    words = [
        ("" if term["weight"] > 0 else "without ")
        + (term["text"] if "text" in term else f"like {term['id']}" if "id" in term else "a picture")
        for term in answer.first.query
    ]
    told = ", ".join(words)
    return told if len(told) <= 80 else f"{told[:79]}…"


def _summary(events: Sequence[FeedbackEvent], every: Sequence[Answer], books: FeedbackBooks) -> str:
    if not events:
        return "there is no feedback yet: clicks and marks on the page give it, and POST /v1/collections/NAME/feedback"
    kinds = Counter(event.kind for event in events)
    told = f"{kinds['click']} clicks, {kinds['right']} right, {kinds['wrong']} wrong"
    room = f"; {books.made_room} of the oldest made room" if books.made_room else ""
    return f"{counted(len(events), 'event')} on {counted(len(every), 'answer')}: {told}{room}"


def _delete(search: Search, arguments: argparse.Namespace) -> int:
    name, before = arguments.collection, arguments.before
    which = f"from before {before.isoformat()}" if before else "all of it"
    if not arguments.yes:
        if not command_runner.is_terminal(sys.stdin):
            raise InvalidInput(
                f"--delete removes feedback on {printable(name)} for good and asks first, but no terminal is there: pass --yes"
            )
        if not is_agreed(f"delete the feedback on {printable(name)}, {which}, for good?"):
            print("nothing was deleted")
            return command_runner.FAILED
    print(f"{counted(search.delete_feedback(name, before=before), 'event')} deleted")
    return 0
