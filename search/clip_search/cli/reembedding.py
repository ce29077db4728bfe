"""Verb ``reembed``: a collection goes over to a model of another space, back, or lets go of the vectors before."""

import argparse
import json
import sys
import time
from typing import Any

from clip_client import command_runner
from clip_client.counting import counted
from clip_client.errors import InvalidInput, NotFound, Unavailable
from clip_client.progress_bars import ProgressBar
from clip_client.search import Search
from clip_client.terminal import printable
from clip_search.cli.collections import is_agreed
from clip_search.cli.commands import client
from clip_search.cli.second_vectors import told

_LOOK_S = 0.5  # between two looks
_LOST_S = 60.0  # for a sidecar that is started again meanwhile


def reembed(arguments: argparse.Namespace) -> int:
    """Begin, go back, drop, or tell how far it is; return 1 where it failed or was refused."""
    name = arguments.collection
    with client(arguments) as search:
        if arguments.left_out:
            for row in search.left_out(name):
                print(json.dumps(row))
            return 0
        if arguments.drop_old:
            return _dropped(search, arguments)
        state = _begun(search, arguments)
        if arguments.wait:
            state = _waited(search, name, state)
        if arguments.json:
            print(json.dumps(state))
        else:
            print(f"{printable(name)}: {told(state)}")
        return command_runner.FAILED if state["state"] in ("refused", "failed") else 0


def _begun(search: Search, arguments: argparse.Namespace) -> dict[str, Any]:
    name = arguments.collection
    if arguments.back is not None:
        return search.reembed_back(name, to=arguments.back or None)
    if arguments.to is None:
        return search.reembedding(name)
    if not arguments.share_of_cores:
        raise InvalidInput("--share-of-cores is 0: expected above 0, 1 for all of the time")
    return search.reembed(
        name,
        arguments.to,
        missing=arguments.missing,
        share_of_cores=max(0.01, arguments.share_of_cores),
        thumbnails=arguments.thumbnails,
    )


def _waited(search: Search, name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state once the work has ended; show how far it is until then."""
    with ProgressBar(desc=f"embedding {printable(name)}", total=state["rows"], unit="row") as bar:
        shown, seen = 0, time.monotonic()
        while state["state"] not in ("kept", "refused", "failed"):
            time.sleep(_LOOK_S)
            try:
                state, seen = search.reembedding(name), time.monotonic()
            except (Unavailable, NotFound):
                if time.monotonic() - seen > _LOST_S:
                    raise
                continue
            bar.update(max(0, state["embedded"] + state["left_out"] - shown))
            shown = max(shown, state["embedded"] + state["left_out"])
    return state


def _dropped(search: Search, arguments: argparse.Namespace) -> int:
    """Drop the vectors that don't answer, once somebody has agreed."""
    name = arguments.collection
    if not arguments.yes and not command_runner.is_terminal(sys.stdin):
        raise InvalidInput("--drop-old removes vectors for good and asks first, but no terminal is there: pass --yes")
    if not arguments.yes:
        state = search.reembedding(name)
        if not is_agreed(f"drop the vectors of {printable(name)} by model {printable(state['model'])} for good?"):
            print("nothing was dropped")
            return command_runner.FAILED
    gone = search.drop_old_vectors(name)
    if arguments.json:
        print(json.dumps(gone))
        return 0
    more = f", and {counted(gone['rows_only_there'], 'row')} that had no other" if gone["rows_only_there"] else ""
    print(f"{printable(name)}: the vectors of model {printable(gone['model'])} are dropped{more}")
    return 0
