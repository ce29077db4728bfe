"""Routes that describe a collection's content: facets of columns, groups of near duplicates."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from clip_search.arrays import Rows
from clip_search.collection import Collection
from clip_search.facets import facets
from clip_search.results import hits
from clip_search.web import exploring_models as answers
from clip_search.web import request_models as bodies
from clip_search.web.api_document import post
from clip_search.web.app_state import body, collection, state
from clip_search.web.guard import answer
from clip_search.web.response_models import failures
from clip_search.web.row_json import Rendering

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_MOST_SENT = 100  # rows of a group, whose size is told


@router.get("/{name}/facets", response_model=answers.Facets, responses=failures(404, 503))
async def collection_facets(request: Request, name: str, filter: str = "", columns: str = "") -> Response:
    """Return the frequent values or the range of each column (or of some, by commas), over the rows that a filter keeps."""
    named, wanted = collection(request), [column.strip() for column in columns.split(",") if column.strip()]
    return answer(await state(request).counting.run(facets, named, filter, wanted))


@post(router, "/{name}/duplicates", bodies.DuplicateSearch, answers.Duplicates, 404, 413, 503)
async def collection_duplicates(request: Request, name: str) -> Response:
    """Return groups of near duplicates among a collection's pictures, or those that a filter keeps, the largest first."""
    shared, named, sent = state(request), collection(request), await body(request, bodies.DuplicateSearch)
    checked, groups = await shared.comparing.run(_grouped, named, sent)
    page = groups[sent.offset : sent.offset + sent.limit]
    rendering = Rendering(shared.sidecar, named)
    sent_groups = await shared.searching.run(_groups, named, rendering, page)
    return answer({"groups": sent_groups, "more": len(groups) > sent.offset + sent.limit, "checked": checked})


def _grouped(named: Collection, sent: bodies.DuplicateSearch) -> tuple[int, list[Rows]]:
    neighbours = named.neighbours(sent.filter, again=sent.offset == 0)
    return neighbours.checked, neighbours.groups(sent.threshold)


def _groups(named: Collection, rendering: Rendering, groups: list[Rows]) -> list[dict[str, Any]]:
    """Return groups as they are sent: the first rows of each, by their cosine to the very first."""
    return [{"rows": _ranked(named, rendering, group[:_MOST_SENT]), "size": len(group)} for group in groups]


def _ranked(named: Collection, rendering: Rendering, rows: Rows) -> list[dict[str, Any]]:
    vectors = named.engines["image"].vectors(rows)
    scores = (vectors * vectors[0]).sum(1)  # a matrix product would start threads of its own
    order = np.argsort(-scores, kind="stable")
    return [rendering.hit(hit) for hit in hits(named, (scores[order], rows[order]))]
