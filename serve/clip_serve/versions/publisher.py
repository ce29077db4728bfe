"""Publisher: puts a version beside the one that serves, has it loaded, and leads the plain name to it in one exchange."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from clip_client import model_exchange, repository_check
from clip_client.errors import ClipError, Conflict, ContractMismatch, InvalidInput
from clip_client.model_repository import models
from clip_client.model_versions import Wanted, kept, serving, versioned, want, wanted
from clip_client.spec import TOWERS, ModelSpec
from clip_serve.versions.model_folders import check_contract, source_name, spec_of, write_leading, write_version
from clip_serve.versions.servers import Servers

Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """Options of a roll.

    Attributes:
        beside: load the version and leave the plain name where it is.
        alone: unload the version that serves first.
        new_space: go over to a version whose embeddings can't be compared with those that are stored.
    """

    beside: bool = False
    alone: bool = False
    new_space: bool = False


class Publisher:
    """Rolls of one published name in one repository; nobody else's at the same time."""

    def __init__(self, repository: Path, name: str, servers: Servers, say: Say) -> None:
        self._repository, self._name, self._servers, self._say = repository, name, servers, say

    def publish(self, source: Path, choice: Choice) -> int:
        """Put the checkpoint of another repository beside the one that serves, and go over to it; return its number.

        Raises:
            InvalidInput, ContractMismatch: one of the two can't be used, or they don't share a space.
            Conflict: a roll is under way.
            Unavailable: the server couldn't load it, or has no memory for it; nothing changed then.
        """
        with self._alone():
            given = _only_name(source)
            repository_check.configs(source, given)
            theirs = source_name(source, given)
            check_contract(source, theirs)
            self._check_space(spec_of(source, theirs), choice)
            self._clean()
            number = max([serving(self._repository, self._name), *kept(self._repository, self._name)]) + 1
            with self._exchanged() as new:
                write_version(source, theirs, new, versioned(self._name, number))
            self._say(f"version {number} lies beside version {serving(self._repository, self._name)}")
            try:
                self._go(number, choice)
            except BaseException:  # Ctrl-C too: nothing was led to it yet
                if serving(self._repository, self._name) != number:
                    self._want()
                    self._remove({number})
                raise
            if not choice.beside:
                self._clean()
            return number

    def serve(self, number: int, choice: Choice) -> int:
        """Go over to a version that is kept, 0 for the one before; return its number. Raises as :meth:`publish`."""
        with self._alone():
            there = kept(self._repository, self._name)
            now = serving(self._repository, self._name)
            before = wanted(self._repository).get(self._name, Wanted()).before
            number = number or before or max((one for one in there if one < now), default=0)
            if number not in there or number == now:
                others = ", ".join(str(one) for one in there if one != now) or "no other"
                asked = f"version {number}" if number else "earlier version"
                raise InvalidInput(f"{self._name} has no {asked} to go to: version {now} serves, {others} is kept")
            self._check_space(spec_of(self._repository, versioned(self._name, number)), choice)
            self._go(number, choice)
            return number

    def _go(self, number: int, choice: Choice) -> None:
        """Have a version loaded, then lead the plain name to it."""
        now = serving(self._repository, self._name)
        if not choice.alone:
            self._want(beside=(number,))
            self._servers.wait_loaded(self._name, number)
        if choice.beside:
            return
        start = time.monotonic()
        if choice.alone:
            self._want(alone=True, before=now)
        self._lead_to(number)
        self._want(alone=choice.alone, before=now)
        try:
            self._servers.wait_serving(self._name, number)
        except ClipError:
            if choice.alone:
                self._say(f"version {number} doesn't serve: going back to version {now}")
                self._lead_to(now)
            raise
        self._want(before=now)
        self._say(f"version {number} serves {self._name} after {time.monotonic() - start:.1f} s, version {now} is kept")

    def _lead_to(self, number: int) -> None:
        """Exchange the six models of the plain name; the first ones become the models of their version."""
        with self._exchanged() as new:
            if source_name(self._repository, self._name) == self._name:
                first = versioned(self._name, serving(self._repository, self._name))
                write_version(self._repository, self._name, new, first)
            write_leading(new, self._repository, self._name, number)

    def _clean(self) -> None:
        """Remove versions that neither serve nor served before, of killed rolls too."""
        now, state = serving(self._repository, self._name), wanted(self._repository).get(self._name, Wanted())
        gone = set(kept(self._repository, self._name)) - {now, state.before}
        if gone & set(state.beside):
            self._want()
            self._servers.wait_unloaded(self._name, gone)
        self._remove(gone)

    def _want(self, beside: tuple[int, ...] = (), *, alone: bool = False, before: int | None = None) -> None:
        kept_before = wanted(self._repository).get(self._name, Wanted()).before
        want(self._repository, self._name, Wanted(beside, alone, kept_before if before is None else before))
        self._servers.follow(self._repository)

    def _remove(self, numbers: set[int]) -> None:
        for number in numbers:
            for tower in TOWERS:
                for model in models(versioned(self._name, number), tower):
                    shutil.rmtree(self._repository / model, ignore_errors=True)

    def _check_space(self, spec: ModelSpec, choice: Choice) -> None:
        now = spec_of(self._repository, source_name(self._repository, self._name))
        ours, theirs = now.tower_fingerprint("image"), spec.tower_fingerprint("image")
        if spec.space == now.space and ours and theirs and ours != theirs:
            raise ContractMismatch(
                f"both are of space {now.space}, but the image towers are {ours} and {theirs}: export the checkpoint again"
            )
        if spec.space != now.space and not choice.new_space:
            raise ContractMismatch(
                f"{self._name} serves space {now.space} (model {now.fingerprint}), the other is of space {spec.space} (model "
                f"{spec.fingerprint}): what was embedded can't be compared with it; pass --new-space, and embed again"
            )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self._repository.parent / f".{self._repository.name}.roll.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as problem:
            raise Conflict(f"another roll of {self._repository} is under way: wait until it has ended") from problem
        except OSError as problem:
            raise InvalidInput(f"{self._repository} can't be written ({problem})") from problem
        try:
            names = repository_check.check(self._repository)
            if self._name not in names:
                raise InvalidInput(f"{self._repository} has no {self._name}, but {', '.join(names)}: pass --name")
            self._servers.check(self._repository)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _exchanged(self) -> Iterator[Path]:
        """Make a folder for new models; exchange them for those of their names at the end, all or none."""
        try:
            with FileLock(model_exchange.lock_file(self._repository)), _staging(self._repository) as staging:
                yield model_exchange.folder_of_new(staging)
                model_exchange.exchange(staging, self._repository)
        except OSError as problem:
            raise InvalidInput(f"{self._repository} can't be written ({problem}): nothing changed") from problem


@contextlib.contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    model_exchange.finish(repository)
    beside = repository.parent.stat().st_dev == repository.stat().st_dev
    parent = repository.parent if beside else repository
    with tempfile.TemporaryDirectory(dir=parent, prefix=model_exchange.prefix(repository)) as staging:
        yield Path(staging)


def _only_name(source: Path) -> str:
    names = repository_check.check(source)
    if len(names) != 1:
        raise InvalidInput(f"{source} holds {', '.join(names)}: expected one checkpoint, as an export into a folder of its own")
    return names[0]
