"""Answers about indexes, a form for each engine."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict


class IndexPart(TypedDict):
    """Part of a faiss index, and the recall that was measured when it was tuned."""

    kind: str
    rows: int
    hidden: int
    effort: int
    recall: float
    target: float
    queries: int
    source: str
    margin: float


class FaissIndex(TypedDict):
    """Index in memory; ``tail_rows`` new rows are compared one by one."""

    engine: Literal["faiss"]
    rows: int
    parts: list[IndexPart]
    tail_rows: int
    recall: float | None
    recall_target: float


class LanceIndex(TypedDict):
    """LanceDB's own index on disk; ``tail_rows`` rows that aren't in it yet are compared one by one."""

    engine: Literal["lancedb"]
    rows: int
    indexed: bool
    kind: str
    indexed_rows: int
    tail_rows: int
    probes: Annotated[int | None, Field(description="lists that a search reads")]
    refine: Annotated[int | None, Field(description="times k: candidates that are compared exactly")]
    queries: int
    source: str | None
    recall: float | None
    recall_target: float


class MilvusIndex(TypedDict):
    """Index in a Milvus server; ``tail_rows`` new rows are compared one by one here, ``waiting_rows`` of them aren't there."""

    engine: Literal["milvus"]
    rows: int
    tail_rows: int
    waiting_rows: int
    effort: int
    queries: int
    source: str
    recall: float | None
    recall_target: float
    trouble: Annotated[str, Field(description="why the server can't be searched; empty if it can")]
