"""Kinds of requests of the load, each with its own judgement of the answer."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chaos.asking import Answer, Door
from chaos.ledger import Change, Ledger
from chaos.load import Kind
from chaos.samples import PICTURES, TEXTS, Floats, Samples, drawn, packed

COLLECTION = "/v1/collections/chaos"
_PICTURED, _DRAWN, _DELETED, _CHECKED = 3, 8, 6, 4  # most rows of a request
_UNKNOWN = "it isn't known if"  # how the sidecar says that an outcome is open
_HITS = 10
_Sent = tuple[Answer, str] | None


@dataclass(frozen=True)
class Requests:
    """Requests to one sidecar's collection, beside its ledger.

    Attributes:
        is_current: the sidecar shows what is acknowledged at once; one that only reads does so soon after.
    """

    door: Door
    ledger: Ledger
    samples: Samples
    is_current: bool = True

    def kinds(self) -> list[Kind]:
        """Return the kinds of a sidecar that writes."""
        made = self._kind
        return [
            made("add pictures", partial(self._add, pictured=True), "triton", "storage", "room"),
            made("add vectors", partial(self._add, pictured=False), "storage", "room"),
            made("replace rows", self._replace, "storage", "room"),
            made("delete by id", self._delete, "storage", "room"),
            made("delete by filter", self._delete_matching, "storage", "room"),
            made("feedback", self._feedback, "storage", "room"),
            made("search by vector", self._search_vector),
            made("search with a filter", self._search_filtered, "storage"),
            made("search by text", self._search_text, "triton"),
            made("search by picture", self._search_picture, "triton"),
        ]

    def kinds_of_reader(self) -> list[Kind]:
        """Return the kinds of a sidecar that only reads."""
        return [self._kind("search by vector", self._search_any), self._kind("search by text", self._search_text, "triton")]

    def _kind(self, name: str, send: Any, *needs: str) -> Kind:
        return Kind(name, self.door.name, frozenset(needs), send)

    def _add(self, draw: random.Random, pictured: bool) -> _Sent:
        ids = self.ledger.claim(draw, _PICTURED if pictured else _DRAWN, there=False)
        return self._put(ids, pictured, "error")

    def _replace(self, draw: random.Random) -> _Sent:
        return self._put(self.ledger.claim(draw, _DRAWN, there=True), False, "replace")

    def _put(self, ids: Sequence[str], pictured: bool, on_conflict: str) -> _Sent:
        if not ids:
            return None
        serials = {id: self.ledger.serial(pictured) for id in ids}
        body = {"rows": [self.samples.row(id, serial) for id, serial in serials.items()], "on_conflict": on_conflict}
        expected = {"replaced" if on_conflict == "replace" else "added": len(ids), "errors": []}
        return self._changed({**serials}, "rows", body, expected)

    def _delete(self, draw: random.Random) -> _Sent:
        ids = self.ledger.claim(draw, _DELETED, there=True)
        return self._changed(dict.fromkeys(ids), "delete", {"ids": ids}, {"deleted": len(ids)}) if ids else None

    def _delete_matching(self, draw: random.Random) -> _Sent:
        ids = self.ledger.claim(draw, _DELETED, there=True)
        where = {"filter": self._filter(ids)}
        return self._changed(dict.fromkeys(ids), "delete", where, {"deleted": len(ids)}) if ids else None

    def _changed(self, change: Change, path: str, body: Any, expected: Mapping[str, Any]) -> _Sent:
        """Send a change of claimed ids, and note its outcome."""
        name = self.ledger.begin(change)
        answer = self.door.ask("POST", f"{COLLECTION}/{path}", body)
        if answer.is_good:
            self.ledger.end(name, answer.ended)
            told = {field: answer.body.get(field) for field in expected}
            return answer, "" if told == expected else f"answered {told}, expected {dict(expected)}"
        if answer.was_sent and (not isinstance(answer.outcome, int) or _UNKNOWN in answer.message):
            self.ledger.leave_open(name)
        else:
            self.ledger.refuse(name)
        return answer, ""

    def _filter(self, ids: Sequence[str]) -> str:
        return f"serial IN ({', '.join(str(self.ledger.now(id)) for id in ids)})"

    def _feedback(self, draw: random.Random) -> _Sent:
        ids = self.ledger.claim(draw, _CHECKED, there=True)
        if not ids:
            return None
        name = f"{draw.getrandbits(64):016x}"
        body = {"text": draw.choice(self.samples.texts), "shown": ids, "chosen": ids[0], "query_id": name}
        answer = self.door.ask("POST", f"{COLLECTION}/feedback", body)
        if answer.is_good:
            self.ledger.feedback.add(name)
        self.ledger.release(ids)
        return answer, ""

    def _search_vector(self, draw: random.Random) -> _Sent:
        """Search for a row that nobody changes meanwhile: it comes first."""
        ids = self.ledger.claim(draw, 1, there=True)
        if not ids:
            return None
        serial = self.ledger.now(ids[0])
        answer, wrong = self._searched({"vector": packed(self.samples.vector(serial))}, self.samples.vector(serial))
        self.ledger.release(ids)
        best = answer.body["hits"][:1] if answer.is_good else []
        if answer.is_good and not wrong and (not best or best[0]["score"] < 1 - self.samples.tolerance):
            wrong = f"row {serial} of {ids[0]!r} isn't found by its vector: {best}"
        return answer, wrong

    def _search_filtered(self, draw: random.Random) -> _Sent:
        """Search among rows that nobody changes meanwhile: it finds these."""
        ids = self.ledger.claim(draw, _CHECKED, there=True)
        if not ids:
            return None
        query = drawn(-draw.getrandbits(16) % 5000, self.samples.size)
        answer, wrong = self._searched({"vector": packed(query), "filter": self._filter(ids)}, query)
        self.ledger.release(ids)
        if answer.is_good and not wrong and {hit["id"] for hit in answer.body["hits"]} != {*ids}:
            wrong = f"the filter finds {sorted(hit['id'] for hit in answer.body['hits'])}, expected {sorted(ids)}"
        return answer, wrong

    def _search_any(self, draw: random.Random) -> _Sent:
        query = self.samples.vector(self.ledger.any_serial(draw))
        return self._searched({"vector": packed(query)}, query)

    def _search_text(self, draw: random.Random) -> _Sent:
        n = draw.randrange(TEXTS)
        return self._searched({"text": self.samples.texts[n]}, self.samples.text_vectors[n])

    def _search_picture(self, draw: random.Random) -> _Sent:
        n = draw.randrange(PICTURES)
        return self._searched({"image": self.samples.pictures[n]}, self.samples.picture_vectors[n])

    def _searched(self, what: Mapping[str, Any], query: Floats) -> tuple[Answer, str]:
        body = {**what, "k": _HITS, "modality": "image"}
        answer = self.door.ask("POST", f"{COLLECTION}/search", body)
        if not answer.is_good:
            return answer, ""
        hits = answer.body["hits"]
        scores = [hit["score"] for hit in hits]
        asked_at = answer.began if self.is_current else None
        wrong = (self._fault(hit, query, asked_at) for hit in hits)
        unordered = "" if scores == sorted(scores, reverse=True) else f"scores aren't in order: {scores}"
        return answer, next(filter(None, itertools.chain(wrong, [unordered])), "")

    def _fault(self, hit: Mapping[str, Any], query: Floats, asked_at: float | None) -> str:
        """Return what is wrong with a hit: its metadata and its score belong to its row's vector."""
        serial = hit["metadata"].get("serial")
        if serial is None or hit["metadata"].get("label") != f"row {serial}":
            return f"{hit['id']!r} is shown with {hit['metadata']}"
        expected = float(np.dot(query, self.samples.vector(serial)))
        if abs(expected - hit["score"]) > self.samples.tolerance:
            return f"{hit['id']!r}, row {serial}, has a score of {hit['score']:.4f}, expected {expected:.4f}"
        return self.ledger.misplaced(hit["id"], serial, asked_at)
