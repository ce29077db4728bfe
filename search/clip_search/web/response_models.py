"""Answers: their schemas in the OpenAPI document. Routes write JSON themselves; nothing here runs while one is answered."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from clip_client.spec import Tower
from clip_search.web.index_models import FaissIndex, LanceIndex, MilvusIndex

Vector: TypeAlias = Annotated[str, Field(description="little-endian float32 in base64")]
Metadata: TypeAlias = Annotated[dict[str, Any], Field(description="values by column")]
Responses: TypeAlias = dict[int | str, dict[str, Any]]


class FailureDetails(TypedDict):
    """Error as OpenAI's clients read it; ``errors`` has a reason by position, where the request was a batch.

    ``request_id`` is that of the answer's header; it stands in the log, too.
    """

    message: str
    type: str
    param: None
    code: int
    request_id: NotRequired[str]
    errors: NotRequired[dict[str, str]]


class Failure(TypedDict):
    """Error: ``message`` as clip-retrieval's clients read it, ``error`` as OpenAI's do."""

    message: str
    error: FailureDetails


class Reembedding(TypedDict):
    """Second set of vectors of a collection; while it is made, ``rows`` are the embedded, left out and pending ones."""

    state: Literal["embedding", "waiting", "indexing", "swapping", "refused", "failed", "kept"]
    reason: Annotated[str, Field(description="of waiting, refused and failed")]
    serving: Annotated[str, Field(description="name by which the model of the set that answers is asked for")]
    model: Annotated[str, Field(description="the same of this set")]
    fingerprint: str
    space: str
    rows: int
    embedded: int
    left_out: int
    pending: int
    most_missing: float
    share_of_cores: float
    thumbnails: bool


class Statistics(TypedDict):
    """Statistics of a collection."""

    name: str
    rows: int
    dimension: int
    fingerprint: str
    space: str
    columns: Annotated[dict[str, str], Field(description="kinds by name")]
    table_version: int
    read_only: Annotated[bool, Field(description="true for a sidecar that follows another's database")]
    behind_s: Annotated[float | None, Field(description="seconds for which changes may have gone unseen, if it only reads")]
    model: Annotated[str, Field(description="name of the served model; empty if unknown")]
    notice: Annotated[str, Field(description="purpose of the served model, if the vectors are of that; else empty")]
    indexes: dict[Tower, FaissIndex | LanceIndex | MilvusIndex]
    reembedding: NotRequired[Annotated[Reembedding, Field(description="state of the second set of vectors, if there is one")]]


class Collections(TypedDict):
    """Statistics of all collections."""

    collections: list[Statistics]
    read_only: Annotated[bool, Field(description="true for a sidecar that follows another's database: it refuses changes")]
    feedback: Annotated[bool, Field(description="true if clicks and marks on hits are taken")]


class Dropped(TypedDict):
    """Name of the collection that was removed."""

    dropped: str


class RowError(TypedDict):
    """Reason why a row was left out; ``index`` is its position in the request."""

    index: int
    message: str


class Added(TypedDict):
    """Outcome of an addition; ``added + replaced + skipped`` and the errors are as many as the rows that were sent."""

    added: int
    replaced: int
    skipped: int
    ids: list[str]
    errors: list[RowError]


class ArrowAdded(Added):
    """Outcome of an addition of Arrow rows; ``others`` has positions of rows whose ids belong to rows with other vectors."""

    others: list[int]


class ImportStep(TypedDict):
    """Outcome of some rows of a folder; items are pairs of a name and a reason, ``notes`` of rows that are in, in part."""

    rows: int
    added: int
    unchanged: int
    replaced: int
    left_out: list[tuple[str, str]]
    notes: list[tuple[str, str]]


class Row(TypedDict):
    """Row of a collection; vectors are there on request, ``thumbnail`` is the path of a picture."""

    id: str
    row: int
    source: str | None
    fingerprint: str | None
    time: datetime | None
    source_state: NotRequired[str]
    vector_image: NotRequired[Vector]
    vector_text: NotRequired[Vector]
    thumbnail: str | None
    metadata: Metadata


class Rows(TypedDict):
    """Rows by id."""

    rows: list[Row]


class RowPage(Rows):
    """Rows in their order; ``next`` is the ``after`` of the following page, where they are by number."""

    next: int | None


class Deleted(TypedDict):
    """Number of deleted rows."""

    deleted: int


class Hit(TypedDict):
    """Hit of a search; ``score`` is a cosine, ``thumbnail`` the path of a picture, ``same`` are ids that it stands for."""

    id: str
    row: int
    score: float
    source: str | None
    thumbnail: str | None
    metadata: Metadata
    same: NotRequired[list[str]]


class Passing(TypedDict):
    """Number of rows that pass threshold and filter; ``more`` do if 10,000 were counted."""

    rows: int
    more: bool


class Milliseconds(TypedDict):
    """Time of a search: for the vectors of its terms, in the index, and in all."""

    embed: float
    search: float
    total: float


class Hits(TypedDict):
    """Hits, best first unless they are sorted."""

    hits: list[Hit]
    passing: NotRequired[Passing]
    model: str
    space: str
    took_ms: float
    milliseconds: Milliseconds


class KnnHit(TypedDict):
    """Hit of the knn service; the first ``num_images`` have their columns and a picture as JPEG in base64."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    id: int
    similarity: float
    image: NotRequired[str]


class RowMetadata(TypedDict):
    """Metadata of a row by its number."""

    id: int
    metadata: Metadata


class PageConfig(TypedDict):
    """Settings of clip-retrieval's page."""

    defaultBackend: str
    defaultIndex: str
    urlColumn: str
    notice: str


class Embedding(TypedDict):
    """Vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | Vector


class Usage(TypedDict):
    """Tokens of the texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """Vectors of all inputs, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(TypedDict):
    """Model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    fingerprint: str
    notice: str


class ModelList(TypedDict):
    """List of the one model."""

    object: Literal["list"]
    data: list[Model]


class Live(TypedDict):
    """Sign of life."""

    live: Literal[True]


class Readiness(TypedDict):
    """Readiness, and a reason for each part that isn't ready."""

    ready: bool
    not_ready: dict[str, str]
    behind_s: NotRequired[dict[str, float]]


def failures(*codes: int) -> Responses:
    """Return the responses of a route with errors of its own, beside those of :data:`ANY_ROUTE`."""
    return {code: {"model": Failure, "description": _REASONS[code]} for code in codes}


_REASONS = {
    400: "The request can't be used; the message says what was expected.",
    401: "The token is missing or wrong.",
    403: "A page of another site asks, or a host name that isn't the sidecar's; or a change, of a sidecar that only reads.",
    404: "There is no such collection or row.",
    409: "The name or id is there already, or the vectors are another model's.",
    413: "The body or a file is too large, or more is asked for than is allowed.",
    503: "Triton, the table, memory or threads can't be had now.",
    504: "Triton didn't answer in time.",
    507: "The disk is full.",
}
ANY_ROUTE: Responses = {
    **failures(400, 401, 403),
    "default": {"model": Failure, "description": "Any other error, in the same form."},
}
