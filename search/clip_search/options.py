"""What a sidecar can be told, as frozen values that are passed on explicitly."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from clip_client.errors import InvalidInput

Engine = Literal["faiss", "lancedb"]
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

CACHE_BYTES = 64 * 2**20
"""Memory for LanceDB's indexes of ids and columns; most of what doesn't fit is in the operating system's cache of files."""
MAX_RESULTS = 10_000
"""The most that one search looks at, offset included."""
INDEXES = "indexes"
"""Folder of the indexes in that of a database."""


@dataclass(frozen=True)
class IndexOptions:
    """How vectors are searched.

    Attributes:
        engine: ``faiss`` keeps an index in memory, ``lancedb`` searches its own index on disk.
        recall_target: share of the true nearest 10 that an approximate search must find.
        exact_rows: up to so many rows a collection is searched exactly.
        tail_rows: so many new rows are searched exactly before they get an index of their own; more while rows keep coming.
        memory_bytes: what an index may take; above it a smaller kind is chosen.
        threads: used while an index is built; searches go on beside it.
    """

    engine: Engine = "faiss"
    recall_target: float = 0.98
    exact_rows: int = 10_000
    tail_rows: int = 8_192
    memory_bytes: int = 4 * 2**30
    threads: int = 1

    @property
    def cache_bytes(self) -> int:
        """Memory for LanceDB's own indexes: where vectors are searched in them, as much as an index may take."""
        return self.memory_bytes if self.engine == "lancedb" else CACHE_BYTES

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise InvalidInput(f"engine is {self.engine!r}: expected 'faiss' or 'lancedb'")
        if not 0 < self.recall_target <= 1:
            raise InvalidInput(f"the recall target is {self.recall_target}: expected above 0, at most 1")


@dataclass(frozen=True)
class FetchOptions:
    """What may be fetched for a client, and how much of it.

    Attributes:
        folders: pictures are read from below these, and from nowhere else.
        networks: addresses that may be fetched from although they aren't public.
        ports: may be fetched from besides 80 and 443.
        timeout_s: bound on one URL, redirects included.
        image_bytes: largest file.
    """

    folders: tuple[Path, ...] = ()
    networks: tuple[Network, ...] = ()
    ports: tuple[range, ...] = ()
    timeout_s: float = 10.0
    image_bytes: int = 32 * 2**20


@dataclass(frozen=True)
class HttpOptions:
    """Who may ask, and how much at once.

    Attributes:
        host: address to listen on.
        port: TCP port.
        token: what clients must send as a bearer token; empty for none.
        origins: other sites whose pages may call this one (CORS); ``*`` for any.
        names: host names that the server goes by, besides addresses and ``localhost``.
        body_bytes: largest request.
        columns: metadata columns that clip-retrieval's route returns, where they exist.
    """

    host: str = "127.0.0.1"
    port: int = 1234
    token: str = field(default="", repr=False)
    origins: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    body_bytes: int = 64 * 2**20
    columns: tuple[str, ...] = ("url", "image_path", "caption", "NSFW")


@dataclass(frozen=True)
class Bounds:
    """Limits of requests, of all together and of each, in bytes and seconds; defaults are explained in docs/search.md.

    Attributes:
        search_bytes: largest request that neither adds rows nor asks for embeddings: a picture of 12 MB in base64.
        body_memory: bytes for bodies that are whole and what is read from them; never below twelve times the largest body.
        body_disk: bytes of larger bodies that are still arriving, in files; never below four times the largest body.
        fetch_memory: bytes for files that were fetched or read by path; each takes 32 MB until it is there.
        decode_memory: bytes for pictures that are being decoded here, for their thumbnails.
        wait_s: how long a request waits for any of these before it is refused.
        body_s: a body may pause so long, and has so long beside the time that ``body_rate`` gives it.
        body_rate: bytes a second that a body has to keep up.
        head_s: how long the head of a request may take.
        head_bytes: of a request: method, path and headers.
        headers: how many.
        connections: how many at once.
    """

    search_bytes: int = 16 * 2**20
    body_memory: int = 2**30
    body_disk: int = 4 * 2**30
    fetch_memory: int = 2**30
    decode_memory: int = 2 * 2**30
    wait_s: float = 20.0
    body_s: float = 10.0
    body_rate: int = 64 * 2**10
    head_s: float = 10.0
    head_bytes: int = 64 * 2**10
    headers: int = 100
    connections: int = 500


@dataclass(frozen=True)
class Options:
    """All of it.

    Attributes:
        data: folder or object-store URI of the LanceDB database.
        index_folder: where derived indexes are kept; beside the database if unset.
        triton: host:port of Triton's gRPC endpoint.
        model: what the checkpoint was published as.
        text_cache: how many text embeddings are kept; 0 for none.
    """

    data: str
    index_folder: Path | None = None
    triton: str = "localhost:8001"
    model: str = "clip"
    text_cache: int = 10_000
    index: IndexOptions = field(default_factory=IndexOptions)
    fetch: FetchOptions = field(default_factory=FetchOptions)
    http: HttpOptions = field(default_factory=HttpOptions)
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def indexes(self) -> Path:
        """Folder of the derived indexes.

        Raises:
            InvalidInput: the database is in an object store and no folder was named.
        """
        if self.index_folder:
            return self.index_folder
        if "://" in self.data:
            raise InvalidInput(f"{self.data} is an object store: name a local folder for the indexes, --index DIR")
        return Path(self.data) / INDEXES
