"""Stand-in of the Hugging Face hub on loopback, which the real client of huggingface_hub talks to through ``HF_ENDPOINT``.

Routes and headers are those that huggingface_hub reads: ``/api/models/…``, ``/ID/resolve/REVISION/FILE``; large files are
redirected to another origin, as to the hub's CDN. Files are served by plain HTTP: none has a xet hash.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import hub_repositories
from hub_repositories import PullRequest, Repository, StoredFile
from hub_state import Fault, Hub, Request

__all__ = ["Fault", "Hub", "PullRequest", "Repository", "Request", "running"]

BLOCK = 2**14
_VERBS = frozenset({"revision", "tree", "discussions", "refs", "paths-info", "resolve"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub
    stopping: threading.Event

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


@contextmanager
def running(repositories: Mapping[str, Repository | Path]) -> Iterator[Hub]:
    """Serve repositories (a folder is one with a main branch alone) until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    named = {name: given if isinstance(given, Repository) else Repository(given) for name, given in repositories.items()}
    server.hub, server.stopping = Hub(f"http://127.0.0.1:{server.server_port}", named), threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message, **headers}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    file: tuple[str, str] | None = None

    def do_GET(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        self.file, self.given = None, parse_qs(url.query)
        self.fault = self._fault(f"{self.command} {unquote(url.path)}")
        if self.fault.delay_s:
            self.server.stopping.wait(self.fault.delay_s)
        try:
            if self.fault.status:
                self._fail()
            else:
                self._answer(hub, url.path)
        except _Refused as refusal:
            self._send(refusal.status, {"error": str(refusal)}, refusal.headers)

    do_HEAD = do_POST = do_GET  # noqa: N815  (names that http.server calls)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the screen free; requests are recorded."""

    def _fault(self, line: str) -> Fault:
        for fault in self.server.hub.faults:
            if fault.times > 0 and re.search(fault.path, line):
                fault.times -= 1
                return fault
        return Fault("")

    def _fail(self) -> None:
        wait = {} if self.fault.retry_after_s is None else {"Retry-After": str(self.fault.retry_after_s)}
        self._send(self.fault.status, {"error": "the stand-in was told to fail"}, wait)

    def _answer(self, hub: Hub, path: str) -> None:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if parts[0] == "cdn":
            name, commit = parts[1], parts[2]
            return self._content(name, hub.repositories[name], commit, "/".join(parts[3:]))
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        length = 1 if len(parts) > 1 and parts[1] in _VERBS else 2
        name, (verb, *rest) = "/".join(parts[:length]), [*parts[length:], ""]
        known = self._known(hub, name)
        if known != name:
            prefix = "/api/models/" if api else "/"
            query = f"?{urlsplit(self.path).query}" if urlsplit(self.path).query else ""
            moved = prefix + known + path.removeprefix(prefix)[len(quote(name)) :] + query
            return self._send(307, {}, {"Location": moved})
        repository = hub.repositories[name]
        if verb == "resolve":
            return self._resolved(name, repository, rest[0], "/".join(rest[1:-1]))
        return self._told(name, repository, verb, rest[:-1], body)

    def _known(self, hub: Hub, name: str) -> str:
        """Return an id as it is spelled now; refuse one that isn't there, or not for everybody."""
        spelled = {spelling.lower(): spelling for spelling in hub.repositories}
        current = hub.renamed.get(name, spelled.get(name.lower()))
        repository = hub.repositories.get(current or "")
        if (
            current is None
            or repository is None
            or (repository.private is not None and self._token() not in repository.private)
        ):
            message = "Repository not found" if self._token() else "Invalid username or password."
            raise _Refused(404 if self._token() else 401, "RepoNotFound", message)
        return current

    def _token(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _folder(self, repository: Repository, revision: str) -> Path:
        if folder := repository.folder(revision):
            return folder
        raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def _told(self, name: str, repository: Repository, verb: str, rest: list[str], body: bytes) -> None:
        """Answer one of the API's questions about a repository."""
        if verb in {"", "revision"}:
            folder = self._folder(repository, rest[0] if rest else "main")
            return self._send(200, hub_repositories.model(name, repository, folder, self._flag("blobs")))
        if verb == "refs":
            return self._send(200, hub_repositories.references(repository, self._flag("include_prs")))
        if verb == "discussions":
            return self._discussions(name, repository, rest)
        folder = self._folder(repository, rest[0])
        if verb == "tree":
            inside = "/".join(rest[1:])
            rows = hub_repositories.tree(folder, inside, self._flag("recursive"), self._flag("expand"))
            if inside and not rows:
                raise _Refused(404, "EntryNotFound", f"{inside} does not exist on {rest[0]!r}")
            return self._page(rows)
        asked = parse_qs(body.decode()).get("paths", [])
        rows = hub_repositories.tree(folder, "", recursive=True, expand=False)
        return self._send(200, [row for row in rows if row["path"] in asked])

    def _discussions(self, name: str, repository: Repository, rest: list[str]) -> None:
        threads = hub_repositories.threads(name, repository)
        if rest:
            for thread in threads:
                if str(thread["num"]) == rest[0]:
                    return self._send(200, hub_repositories.details(thread, repository))
            raise _Refused(404, "", "Discussion not found")
        kind, status = self._value("type", "all"), self._value("status", "all")
        shown = [
            thread
            for thread in threads
            if kind in {"all", "pull_request" if thread["isPullRequest"] else "discussion"}
            and (status in {"all", thread["status"]} or (status == "closed" and thread["status"] == "merged"))
        ]
        size = self.server.hub.discussed
        start = int(self._value("p", "0")) * size
        return self._send(200, {"discussions": shown[start : start + size], "count": len(shown), "start": start})

    def _page(self, rows: list[dict[str, Any]]) -> None:
        size, start = self.server.hub.listed, int(self._value("cursor", "0"))
        headers = {}
        if start + size < len(rows):
            url = urlsplit(self.path)
            query = "&".join([*(part for part in url.query.split("&") if part[:7] != "cursor="), f"cursor={start + size}"])
            headers["Link"] = f'<{self.server.hub.address}{url.path}?{query}>; rel="next"'
        return self._send(200, rows[start : start + size], headers)

    def _resolved(self, name: str, repository: Repository, revision: str, wanted: str) -> None:
        """Answer for a file: what it is, then its content, or the way to it."""
        folder = self._folder(repository, revision)
        commit = {"X-Repo-Commit": hub_repositories.commit(folder)}
        if repository.gated is not None and self._token() not in repository.gated:
            where = "and you are not in the authorized list" if self._token() else "You must be authenticated"
            raise _Refused(
                403 if self._token() else 401, "GatedRepo", f"Access to model {name} is restricted. {where}", **commit
            )
        file = self._stored(folder, wanted, commit)
        if not file.sha256:
            return self._content(name, repository, revision, wanted)
        linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size), "ETag": f'"{file.oid}"'}
        other = self.server.hub.address.replace("127.0.0.1", "localhost")
        location = f"{other}/cdn/{quote(name, safe='')}/{commit['X-Repo-Commit']}/{quote(file.name)}"
        return self._send(302, {}, {**commit, **linked, "Location": location})

    def _stored(self, folder: Path, name: str, commit: Mapping[str, str]) -> StoredFile:
        path = folder / name
        if not path.is_file() or ".." in Path(name).parts:
            raise _Refused(404, "EntryNotFound", "Entry not found", **commit)
        return hub_repositories.stored(folder, path)

    def _content(self, name: str, repository: Repository, revision: str, wanted: str) -> None:
        """Send a file, or the rest of it that a range asks for."""
        folder = self._folder(repository, revision)
        commit = {"X-Repo-Commit": hub_repositories.commit(folder)}
        file = self._stored(folder, wanted, commit)
        range_ = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(range_[1]) if range_ else 0
        if range_ and start >= file.size:
            return self._send(416, {}, {"Content-Range": f"bytes */{file.size}"})
        body = bytearray(file.path.read_bytes())
        if self.fault.tampered and body:
            body[len(body) // 2] ^= 0x55
        end = min(int(range_[2]), file.size - 1) if range_ and range_[2] else file.size - 1
        part = {"Content-Range": f"bytes {start}-{end}/{file.size}"} if range_ else {}
        self.file = (name, wanted) if self.command != "HEAD" else None
        self._head(
            206 if range_ else 200, end + 1 - start, {**commit, **part, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        )
        if self.command != "HEAD":
            self._stream(bytes(body[start : end + 1]))

    def _stream(self, body: bytes) -> None:
        cut = self.fault.cut_after
        for start in range(0, len(body) if cut is None else min(cut, len(body)), BLOCK):
            if self.fault.delay_s:
                self.server.stopping.wait(self.fault.delay_s)
            self.wfile.write(body[start : min(start + BLOCK, len(body) if cut is None else cut)])
        if cut is not None:
            self.close_connection = True

    def _send(self, status: int, answer: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self._head(status, len(body), {"Content-Type": "application/json; charset=utf-8", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        url, came = urlsplit(self.path), {name.lower(): value for name, value in self.headers.items()}
        self.server.hub.requests.append(Request(self.command, unquote(url.path), url.query, came, status, self.file))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _value(self, name: str, otherwise: str) -> str:
        return self.given.get(name, [otherwise])[0]

    def _flag(self, name: str) -> bool:
        return self._value(name, "").lower() in {"1", "true"}
