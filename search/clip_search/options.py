"""Options of a sidecar, and their defaults: frozen values that are passed on explicitly."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from clip_client import ports
from clip_client.addresses import Network
from clip_client.errors import InvalidInput

Engine = Literal["faiss", "lancedb", "milvus"]
Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)  # of tokens

CACHE_BYTES = 64 * 2**20  # memory for LanceDB's indexes of ids and columns; the operating system caches most of the rest
MAX_RESULTS = 10_000  # most hits with metadata in an answer, most rows of a list
MAX_RANKED = 100_000  # most hits of a search, offset included
INDEXES = "indexes"  # folder of the indexes, in the folder of a database
QUERIES = ".clipserve-queries"  # folder of pictures that links to a search refer to, in the folder of a database
FEEDBACK = ".clipserve-feedback"  # database of the feedback, in that of the collections


@dataclass(frozen=True)
class MilvusOptions:
    """Milvus server of the engine of that name."""

    uri: str = ""  # http://HOST:19530, https:// for TLS; a path names a database
    token: str = field(default="", repr=False)  # USER:PASSWORD or an API key; empty for none

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if self.uri and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise InvalidInput(f"--milvus-uri is {self.uri.rpartition('@')[2]!r}: expected http://HOST:19530")
        if "@" in parts.netloc:
            raise InvalidInput("--milvus-uri holds a password: put USER:PASSWORD into a file, --milvus-token-file FILE")


@dataclass(frozen=True)
class IndexOptions:
    """Options of the index."""

    engine: Engine = "faiss"  # which keeps an index in memory; `lancedb` searches its own index on disk, `milvus` a server's
    recall_target: float = 0.98  # share of the true nearest 10 that an approximate search must find
    exact_rows: int = 10_000  # a collection of up to this many rows is searched exactly
    tail_rows: int = 8_192  # new rows that are searched exactly before they get a part; more while rows keep coming
    memory_bytes: int = 4 * 2**30  # memory of the process; a collection that needs more gets a smaller kind of index
    mapped_bytes: int = 32 * 2**20  # vectors of a part from which on it is written to files and searched there
    threads: int = max(1, (os.cpu_count() or 2) // 2)  # of a build; searches go on beside it on the other half of the cores
    milvus: MilvusOptions = field(default_factory=MilvusOptions)

    @property
    def cache_bytes(self) -> int:
        """Memory for LanceDB's own indexes; if they hold the vectors, as much as an index may take."""
        return self.memory_bytes if self.engine == "lancedb" else CACHE_BYTES

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise InvalidInput(f"engine is {self.engine!r}: expected {' or '.join(map(repr, get_args(Engine)))}")
        if self.engine == "milvus" and not self.milvus.uri:
            raise InvalidInput("--engine milvus has no server: name it, --milvus-uri http://HOST:19530")
        if not 0 < self.recall_target <= 1:
            raise InvalidInput(f"the recall target is {self.recall_target}: expected above 0, at most 1")


@dataclass(frozen=True)
class FetchOptions:
    """Files that may be fetched or read for a client."""

    folders: tuple[Path, ...] = ()  # pictures are read from below them, and from nowhere else
    networks: tuple[Network, ...] = ()  # private addresses that may be fetched from
    ports: tuple[range, ...] = ()  # ports that may be fetched from besides 80 and 443
    timeout_s: float = 10.0  # time for a URL, redirects included
    image_bytes: int = 32 * 2**20  # largest file


@dataclass(frozen=True)
class HttpOptions:
    """Options of HTTP: address, access, size of a request."""

    host: str = "127.0.0.1"  # address to listen on
    port: int = ports.SEARCH
    token: str = field(default="", repr=False)  # bearer token that clients must send; empty for none
    token_file: Path | None = None  # of several tokens with names and scopes, or of one; takes the place of `token`
    origins: tuple[str, ...] = ()  # other sites whose pages may call this one (CORS); `*` for any
    names: tuple[str, ...] = ()  # host names that the server goes by, besides addresses and `localhost`
    body_bytes: int = 64 * 2**20  # largest request
    log_addresses: bool = False  # the log tells the addresses of clients
    proxies: tuple[Network, ...] = ()  # addresses that name their client in X-Forwarded-For
    columns: tuple[str, ...] = ("url", "image_path", "caption", "NSFW")  # in the answers of clip-retrieval's route


@dataclass(frozen=True)
class Bounds:
    """Limits of requests, each and all together, in bytes and seconds; docs/search.md gives the reasons."""

    search_bytes: int = 16 * 2**20  # of a request that neither adds rows nor embeds; a picture of 12 MB in base64
    body_memory: int = 2**30  # memory for whole bodies and their content; never below twelve times the largest body
    body_disk: int = 4 * 2**30  # room for arriving bodies, in files; never below four times the largest body
    fetch_memory: int = 2**30  # memory for files that are fetched or read by path; each counts 32 MB until it is there
    decode_memory: int = 2 * 2**30  # memory for pictures that are decoded here, for their thumbnails
    wait_s: float = 20.0  # longest wait of a request for any of these; then it is refused
    body_s: float = 10.0  # longest pause of a body, and time beside that of `body_rate`
    body_rate: int = 64 * 2**10  # lowest speed of a body, in bytes a second
    head_s: float = 10.0  # time for the head of a request
    head_bytes: int = 64 * 2**10  # largest head: method, path and headers
    headers: int = 100  # most headers of a request
    connections: int = 1_000  # most connections at once
    client_connections: int = 500  # most connections of one address
    client_requests: int = 32  # requests of a client; above, it gets what others leave while they ask


@dataclass(frozen=True)
class Options:
    """All options."""

    data: str  # folder or object-store URI of the LanceDB database
    index_folder: Path | None = None  # folder of the derived indexes; in that of the database if None
    triton: str = ports.TRITON_ADDRESS  # host:port of Triton's gRPC endpoint
    model: str = "clip"  # name that the checkpoint was published as
    text_cache: int = 10_000  # entries of the cache of text embeddings; 0 for none
    index: IndexOptions = field(default_factory=IndexOptions)
    fetch: FetchOptions = field(default_factory=FetchOptions)
    http: HttpOptions = field(default_factory=HttpOptions)
    bounds: Bounds = field(default_factory=Bounds)
    read_only: bool = False  # the database is another sidecar's: it is followed, nothing is written to it
    feedback: bool = True  # clicks and marks on hits are taken and kept
    share: float = 0.0  # of the clients whose text queries the version beside the one that serves answers, if there is one
    next_triton: str = ""  # address of a second Triton, with checkpoints to embed collections again with; empty for none

    def __post_init__(self) -> None:
        if self.read_only and self.index.engine == "milvus":
            raise InvalidInput(
                "--read-only takes no --engine milvus, whose server the writing sidecar fills: pass faiss or lancedb"
            )

    @property
    def indexes(self) -> Path:
        """Return the folder of the derived indexes; raise InvalidInput if none was named that has to be."""
        if self.index_folder:
            return self.index_folder
        if self.read_only:
            raise InvalidInput("--read-only needs a folder of its own for the indexes: name a local one, --index DIR")
        if "://" in self.data:
            raise InvalidInput(f"{self.data} is an object store: name a local folder for the indexes, --index DIR")
        return Path(self.data) / INDEXES

    @property
    def queries(self) -> Path:
        """Return the folder of pictures of queries; beside the indexes if the database is an object store, or another's."""
        return (self.indexes if "://" in self.data or self.read_only else Path(self.data)) / QUERIES
