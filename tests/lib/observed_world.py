"""Real servers under Prometheus' eyes, with the faults that alerts tell of."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import sidecars
from prometheus_servers import Prometheus
from servers import CLIPSERVE, running
from sidecars import Sidecar, unit
from stalling_relays import StallingRelay

from clip_client import ModelSpec
from clip_search.collection import Collection
from clip_search.options import INDEXES, IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About

ROWS, NAME = 3000, "photos"
_LOOSE = IndexOptions(recall_target=0.3, exact_rows=400, tail_rows=200)
_QUEUE = "dynamic_batching {\n  default_queue_policy { max_queue_size: 4 }\n}"
DISK_MB = 64
_OWN_DISK = f'mount -t tmpfs -o size={DISK_MB}m none "$1" && cp -r "$2/." "$1" && shift 2 && exec "$@"'
_OWN_MOUNTS = ["unshare", "--mount", "--map-root-user"]
_HALT_S, _PAUSE_S = 1.0, 2.0  # the launcher ends a server of which a process stands still for 3 s


def can_mount() -> bool:
    """Tell if a process can have a disk of its own."""
    probe = [*_OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def filled(folder: Path, spec: ModelSpec) -> None:
    """Make the database of a sidecar, with a collection whose index was tuned to find three of ten."""
    database = Database(str(folder), folder / INDEXES)
    table = database.create(NAME, About(spec.embedding_size, spec.fingerprint), {})
    texts = lambda count, **asked: (unit(count, asked["size"], seed=5), "texts")  # noqa: E731
    collection = Collection(NAME, table, folder / INDEXES / NAME, _LOOSE, texts)
    rows = [
        NewRow(f"r{n}", {"image": vector}, {"caption": f"picture {n}"})
        for n, vector in enumerate(unit(ROWS, spec.embedding_size))
    ]
    collection.add(rows, on_conflict="error", fingerprint="").result()
    collection.maintain()
    collection.close()
    database.close()


class OnOwnDisk(Sidecar):
    """Sidecar with its data on a small disk of its own."""

    content: Path

    def __post_init__(self) -> None:
        where = ["--data", self.data, "--triton", self.triton, "--port", str(self.port)]
        command = [CLIPSERVE, "search", "serve", *where, *self.options]
        disk = [*_OWN_MOUNTS, "sh", "-c", _OWN_DISK, "sh", self.data, self.content]
        self.process = subprocess.Popen([*disk, *command], stdout=subprocess.DEVNULL)


class World:
    """Triton, a sidecar that writes, one that follows it, and Prometheus.

    Attributes:
        relay: between the writer and Triton.
        disk: folder of the data as others see it.
        has_own_disk: if that is a disk of its own.
    """

    def __init__(self, folder: Path, repository: Path, spec: ModelSpec) -> None:
        self._size = spec.embedding_size
        self._folder, self._stack = folder, contextlib.ExitStack()
        filled(folder / "content", spec)
        self.server = self._stack.enter_context(running(_with_short_queue(repository, folder / "repository")))
        self.relay = StallingRelay(self.server.ports[1])
        self._stack.callback(self.relay.close)
        self.has_own_disk = can_mount()
        self.sidecar = self._sidecar()
        self._stack.callback(self.sidecar.stop)
        self.sidecar.wait_open()
        self.disk = Path(f"/proc/{self.sidecar.process.pid}/root{folder / 'data'}") if self.has_own_disk else folder / "data"
        self.mount = folder / "mounted"
        self.mount.symlink_to(self.disk)
        self.follower = self.follow("--memory", "0.1")
        self._stack.callback(lambda: self.follower.stop())
        targets = {"triton": [f"127.0.0.1:{self.server.ports[2]}"], "search": [address(self.sidecar), address(self.follower)]}
        self.prometheus = Prometheus(folder / "prometheus", targets)
        self._stack.callback(self.prometheus.stop)

    def close(self) -> None:
        """Stop everything."""
        self._stack.close()

    def follow(self, *options: str, **port: int) -> Sidecar:
        """Start a sidecar that only reads."""
        where = ("--read-only", "--index", str(self._folder / "follower"))
        follower = Sidecar(self.mount, self.server.address, (*where, *options), **port)
        follower.wait_open()
        return follower

    def _sidecar(self) -> Sidecar:
        data = self._folder / "data"
        if not self.has_own_disk:
            shutil.copytree(self._folder / "content", data)
            return Sidecar(data, self.relay.address)
        data.mkdir()
        OnOwnDisk.content = self._folder / "content"
        return OnOwnDisk(data, self.relay.address)

    def ask(self, **query: object) -> int:
        """Return the status of a search."""
        return self.sidecar.ask("POST", f"/v1/collections/{NAME}/search", {"k": 3, **query})[0]

    def ask_by_vector(self) -> int:
        """Return the status of a search that needs no model."""
        return self.ask(vector=[float(value) for value in unit(1, self._size, seed=1)[0]])

    def ask_by_picture(self) -> int:
        """Return the status of a search that does."""
        return self.ask(image=sidecars.base64_of(sidecars.PICTURES[0]))

    @contextlib.contextmanager
    def busy(self, clients: int, ask: Callable[[], object]) -> Iterator[None]:
        """Let clients ask again and again, as long as a block lasts."""
        finished = threading.Event()

        def go_on() -> None:
            while not finished.wait(0.05):
                ask()

        threads = [threading.Thread(target=go_on, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            finished.set()
            for thread in threads:
                thread.join(60)

    @contextlib.contextmanager
    def halting(self, process: psutil.Process) -> Iterator[None]:
        """Stop a process of Triton's again and again, not for so long that the launcher ends it, as long as a block lasts."""
        finished = threading.Event()

        def go_on() -> None:
            while not finished.is_set():
                process.send_signal(signal.SIGSTOP)
                time.sleep(_HALT_S)  # not a wait for anything: it is the fault
                process.send_signal(signal.SIGCONT)
                finished.wait(_PAUSE_S)

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join(60)


def address(sidecar: Sidecar) -> str:
    """Return host and port, which are the label ``instance``."""
    return f"127.0.0.1:{sidecar.port}"


def _with_short_queue(repository: Path, copy: Path) -> Path:
    """Copy a repository whose image encoder lets four requests wait at most."""
    shutil.copytree(repository, copy)
    config = copy / "clip_image_encoder" / "config.pbtxt"
    text = config.read_text()
    assert "dynamic_batching {\n}" in text
    config.write_text(text.replace("dynamic_batching {\n}", _QUEUE))
    return copy


def damage(folder: Path) -> None:
    """Change a byte in the midst of the index's largest file, in place: a full disk has no room for a copy."""
    path = max((folder / INDEXES / NAME / "image").rglob("*.faiss"), key=lambda path: path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0xFF]))
