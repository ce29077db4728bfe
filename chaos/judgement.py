"""Complete comparison of a sidecar's collection with its ledger, while no request of the load is under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from chaos.asking import Door
from chaos.kinds import COLLECTION
from chaos.ledger import Ledger
from chaos.samples import Samples, drawn, is_pictured, metadata, packed, unpacked

_PAGE = 1_000
_EVERYTHING = 20_000  # hits of which each vector is compared, whatever the index
_EXACT, _AGAIN_S = 1e-5, 0.2
_NAMED = 5  # differences of a kind that are told


class Unread(Exception):
    """The sidecar didn't answer a question of the judge."""


def differences(door: Door, ledger: Ledger, samples: Samples, patience_s: float) -> list[str]:
    """Name what a writing sidecar tells that isn't so; what is there is the truth from then on."""
    try:
        rows = _patiently(door, patience_s)
        there = {row["id"]: int(row["metadata"]["serial"]) for row in rows}
        wrong = ledger.judge(there) + _wrong_rows(rows, samples) + _wrong_search(door, there, samples)
        ledger.settle(there, time.monotonic())
        return [f"{door.name}: {one}" for one in wrong[:_NAMED]]
    except Unread as problem:
        return [f"{door.name}: can't be judged: {problem}"]


def lag(door: Door, ledger: Ledger, samples: Samples, patience_s: float) -> list[str]:
    """Name what a reading sidecar tells that isn't so once it had the time to follow; the ledger was settled before."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            rows = _rows(door)
            there = {row["id"]: int(row["metadata"]["serial"]) for row in rows}
            wrong = ledger.judge(there) or _wrong_rows(rows, samples) + _wrong_search(door, there, samples)
        except Unread as problem:
            wrong = [f"can't be judged: {problem}"]
        if not wrong or time.monotonic() > deadline:
            return [f"{door.name}, {patience_s:g} s later: {one}" for one in wrong[:_NAMED]]
        time.sleep(_AGAIN_S)


def lost_feedback(door: Door, ledger: Ledger) -> list[str]:
    """Name acknowledged feedback that isn't kept."""
    kept, after = set[str](), -1
    while after is not None:
        page = _asked(door, "GET", f"{COLLECTION}/feedback?after={after}&limit={_PAGE}")
        kept |= {event["query_id"] for event in page["feedback"]}
        after = page["next"]
    lost = sorted(ledger.feedback - kept)
    return [f"{door.name}: {len(lost)} of {len(ledger.feedback)} events of feedback were lost: {lost[:_NAMED]}"] if lost else []


def _patiently(door: Door, patience_s: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _rows(door)
        except Unread:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


def _rows(door: Door) -> list[dict[str, Any]]:
    rows, after = list[dict[str, Any]](), -1
    while after is not None:
        page = _asked(door, "GET", f"{COLLECTION}/rows?limit={_PAGE}&vectors=true&after={after}")
        rows, after = rows + page["rows"], page["next"]
    return rows


def _asked(door: Door, method: str, path: str, body: Any = None) -> Any:
    answer = door.ask(method, path, body)
    if not answer.is_good:
        raise Unread(f"{method} {path}: {answer.outcome} {answer.message}")
    return answer.body


def _wrong_rows(rows: list[dict[str, Any]], samples: Samples) -> list[str]:
    ids = [row["id"] for row in rows]
    wrong = [] if len({*ids}) == len(ids) else [f"{len(ids)} rows have {len({*ids})} ids"]
    for row in rows:
        serial = int(row["metadata"]["serial"])
        away = float(np.abs(unpacked(row["vector_image"]) - samples.vector(serial)).max())
        if away > (samples.tolerance if is_pictured(serial) else _EXACT):
            wrong.append(f"{row['id']!r}, row {serial}, has another vector, {away:.5f} away")
        if {name: row["metadata"].get(name) for name in metadata(serial)} != metadata(serial):
            wrong.append(f"{row['id']!r}, row {serial}, has {row['metadata']}")
    return wrong


def _wrong_search(door: Door, there: Mapping[str, int], samples: Samples) -> list[str]:
    """Compare a search that looks at each vector with what is there."""
    query = drawn(len(there), samples.size)
    body = {"vector": packed(query), "k": _EVERYTHING, "columns": [], "modality": "image"}
    hits = _asked(door, "POST", f"{COLLECTION}/search", body)["hits"]
    scores = {hit["id"]: hit["score"] for hit in hits}
    wrong = [f"{len(hits)} hits have {len(scores)} ids"] if len(hits) != len(scores) else []
    if scores.keys() != there.keys():
        wrong.append(f"of {len(there)} rows a search finds {len(scores)}: {sorted(scores.keys() ^ there.keys())[:_NAMED]}")
    for id in scores.keys() & there.keys():
        expected = float(np.dot(query, samples.vector(there[id])))
        if abs(scores[id] - expected) > samples.tolerance:
            wrong.append(f"{id!r}, row {there[id]}, has a score of {scores[id]:.4f}, expected {expected:.4f}")
    return wrong
