"""Routes that describe a collection's content: facets of columns, groups of near duplicates."""

from fastapi import APIRouter, Request, Response

from clip_search.facets import facets
from clip_search.web import exploring_models as answers
from clip_search.web.app_state import collection, state
from clip_search.web.guard import answer
from clip_search.web.response_models import failures

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.get("/{name}/facets", response_model=answers.Facets, responses=failures(404, 503))
async def collection_facets(request: Request, name: str, filter: str = "", columns: str = "") -> Response:
    """Return the frequent values or the range of each column (or of some, by commas), over the rows that a filter keeps."""
    named, wanted = collection(request), [column.strip() for column in columns.split(",") if column.strip()]
    return answer(await state(request).counting.run(facets, named, filter, wanted))
