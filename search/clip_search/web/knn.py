"""Routes of clip-retrieval's back: ``/knn-service``, ``/metadata``, ``/indices-list``, ``/config.json``."""

import base64
import logging
import threading
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.arrays import Rows
from clip_search.collection import Collection
from clip_search.options import MAX_RESULTS
from clip_search.query import SAME, Hit, Query, Term, check_most
from clip_search.steps import step
from clip_search.web import response_models as answers
from clip_search.web.api_document import post
from clip_search.web.app_state import State, body, off_loop, state
from clip_search.web.guard import answer
from clip_search.web.query_runner import search
from clip_search.web.request_models import file_bytes
from clip_search.web.row_thumbnails import picture_at, thumbnails_of

router = APIRouter(tags=["clip-retrieval"])
_LOG = logging.getLogger(__name__)
_NO_FILTERS = "safety, violence and aesthetic models aren't part of this server: asked for, they are passed over"
_WARNED = threading.Event()
_MOST_PICTURES = 500  # hits that come with a picture: at 20 KB each, more would be tens of megabytes in one answer


class Knn(BaseModel):
    """Request to the knn service; unknown fields are ignored, as there."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    modality: str
    num_images: Annotated[int, Field(ge=1)]
    indice_name: str
    text: str | None = None
    image: str | None = None
    image_url: str | None = None
    embedding_input: list[float] | None = None
    num_result_ids: Annotated[int, Field(ge=1)] | None = None
    deduplicate: bool = False
    use_mclip: bool = False
    use_safety_model: bool = False
    use_violence_detector: bool = False
    aesthetic_score: int | float | Literal[""] | None = None
    aesthetic_weight: float | Literal[""] | None = None

    def term(self) -> Term:
        """Return the term to search for: text, else image, else URL, else embedding."""
        if self.text:
            return Term("text", self.text)
        if self.image:
            return Term("image", file_bytes(self.image))
        if self.image_url:
            return Term("image_url", self.image_url)
        if self.embedding_input:
            return Term("vector", self.embedding_input)
        raise InvalidInput("nothing to look for: send text, image, image_url or embedding_input")


class Metadata(BaseModel):
    """Request for the metadata of rows."""

    ids: Annotated[list[int], Field(max_length=MAX_RESULTS)]
    indice_name: str


@post(router, "/knn-service", Knn, list[answers.KnnHit], 404, 409, 413, 503, 504)
async def knn_service(request: Request) -> Response:
    """Search, as clip-retrieval's back does."""
    shared, sent = state(request), await body(request, Knn)
    with shared.metrics.timed("full_knn_request_time"):
        if sent.use_safety_model or sent.use_violence_detector or sent.aesthetic_weight:
            with shared.metrics.timed("safety_time"):
                _pass_over_filters()
        named = shared.sidecar.collection(sent.indice_name)
        hits = (await search(shared, named, await off_loop(request, _query, sent))).hits
        threads = shared.pictures if shared.sidecar.options.fetch.folders else shared.searching
        return await threads.run(_described, shared, named, hits, sent.num_images)


@post(router, "/metadata", Metadata, list[answers.RowMetadata], 404, 413, 503)
async def metadata(request: Request) -> Response:
    """Return metadata by the row numbers that the knn service gave."""
    shared, sent = state(request), await body(request, Metadata)
    named = shared.sidecar.collection(sent.indice_name)
    rows = np.array([id for id in sent.ids if 0 <= id < 2**62], np.int64)
    cards = await run_in_threadpool(_cards, named, rows)
    columns = shared.sidecar.options.http.columns
    return answer([{"id": row, "metadata": _chosen(card, columns)} for row, card in cards])


@router.get("/indices-list", response_model=list[str])
async def indices_list(request: Request) -> Response:
    """Return the names of the collections."""
    return answer(state(request).sidecar.names())


@router.get("/config.json", response_model=answers.PageConfig)
async def config(request: Request) -> Response:
    """Return the settings that clip-retrieval's page asks for first."""
    names = state(request).sidecar.names()
    first = names[0] if names else ""
    here = str(request.base_url)
    return answer({"defaultBackend": here, "defaultIndex": first, "urlColumn": "url", "notice": _NO_FILTERS})


def _pass_over_filters() -> None:
    if not _WARNED.is_set():
        _WARNED.set()
        _LOG.warning(_NO_FILTERS)


def _cards(named: Collection, rows: Rows) -> list[tuple[int, dict[str, Any]]]:
    """Return numbers and cards of the rows that are there: cards outlive their rows for a while."""
    rows = rows[np.isin(rows, named.table.there(np.unique(rows)))]
    return [(row, card) for row, card in zip(rows.tolist(), named.cards.take(rows), strict=True) if card is not None]


def _query(sent: Knn) -> Query:
    tower: Tower = "image" if sent.modality == "image" else "text"
    k = max(sent.num_images, sent.num_result_ids or sent.num_images)
    check_most("num_images", sent.num_images)
    return Query((sent.term(),), k, same=SAME if sent.deduplicate else None, tower=tower, columns=())


@step("rows")
def _described(shared: State, named: Collection, hits: list[Hit], detailed: int) -> Response:
    """Answer with numbers and similarities; the first ``detailed`` with metadata, and with a picture where there is one."""
    options = shared.sidecar.options
    entries: list[dict[str, Any]] = [{"id": hit.row, "similarity": hit.score} for hit in hits]
    with shared.metrics.timed("metadata_get_time"):
        kept = thumbnails_of(named, [hit.row for hit in hits[: min(detailed, _MOST_PICTURES)] if hit.card["has_thumbnail"]])
        cards = named.cards.take(np.array([hit.row for hit in hits[:detailed]], np.int64))
        for n, (entry, hit, taken) in enumerate(zip(entries[:detailed], hits, cards, strict=False)):
            card = taken or hit.card
            entry.update(_chosen(card, options.http.columns))
            paths = (card.get("image_path"), card["source"]) if n < _MOST_PICTURES else ()
            if picture := kept.get(hit.row) or picture_at(paths, shared.sidecar):
                entry["image"] = base64.b64encode(picture).decode()
    return answer(entries)


def _chosen(card: dict[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    """Return the columns asked for; source and text stand in for columns of clip-retrieval's pages that a row lacks."""
    source = card.get("source")
    place = "url" if source and source.lower().startswith(("http://", "https://")) else "image_path"
    values = {place: source, "caption": card.get("text"), **{name: value for name, value in card.items() if value is not None}}
    return {name: values[name] for name in columns if values.get(name) is not None}
