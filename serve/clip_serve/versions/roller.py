"""Roller: brings what Triton has loaded into agreement with the repository, as often as that changes.

The repository says which version serves and which are wanted beside it; each of its states is whole. So a roll that is killed
anywhere, a launcher that starts anew and several launchers on one repository come to the same end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_client import model_config, model_versions, repository_check
from clip_client.errors import ClipError, Timeout
from clip_client.model_repository import encoder, models, preparer
from clip_client.model_versions import STATE_FILE, Wanted, kept, split, target, version_of, versioned, wanted
from clip_client.spec import TOWERS, ensemble
from clip_serve import leftovers
from clip_serve.process_watch import POLL_S, Watch
from clip_serve.versions import memory_check
from clip_serve.versions.door import Door

_AGAIN_S = 1.0  # pause after a failure
_DRAIN_S = 120.0  # patience with requests that a version still has


@dataclass
class Told:
    """State of one name, for those who wait for a roll."""

    serving: int  # number of the version that answers to the plain name
    loaded: list[int] = field(default_factory=list)  # numbers of all that answer
    trouble: dict[int, str] = field(default_factory=dict)  # reason by number of a version that couldn't be loaded


class Roller:
    """Thread that looks at the repository.

    Args:
        repository: as it was published.
        refresh: brings Triton's view of the repository up to date.
        door: to Triton.
        notice: takes a line for the user.
    """

    def __init__(self, repository: Path, refresh: Callable[[], object], door: Door, notice: Callable[[str], None]) -> None:
        self._repository, self._refresh, self._door, self._notice = repository, refresh, door, notice
        self._seen: object = None
        self._stamp = ""  # of the wishes that were met
        self._told: dict[str, Told] = {}
        self._is_rolling = True
        self._ended = threading.Event()
        self._watch: Watch | None = None

    def start(self, watch: Watch) -> None:
        """Begin to look, beside the watch over the processes."""
        self._watch = watch
        threading.Thread(target=self._look_on, name="versions", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._ended.set()

    def versions(self) -> str:
        """Return what serves and what is loaded as JSON."""
        names = {
            name: {"serving": told.serving, "loaded": told.loaded, "trouble": told.trouble} for name, told in self._told.items()
        }
        state = {"repository": identity(self._repository), "stamp": self._stamp, "rolling": self._is_rolling}
        return json.dumps({**state, "names": names})

    def _look_on(self) -> None:
        while not self._ended.is_set():
            try:
                seen = _signature(self._repository)
                if seen != self._seen:
                    self._is_rolling = True
                    stamp = model_versions.stamp(self._repository)
                    self._agree()
                    self._seen, self._stamp, self._is_rolling = seen, stamp, False
            except (ClipError, OSError) as problem:  # Triton's or the disk's: looked at again
                if not self._ended.is_set():
                    self._notice(f"versions: {problem}")
                self._ended.wait(_AGAIN_S)
            self._ended.wait(POLL_S)

    def _agree(self) -> None:
        names = repository_check.check(self._repository)
        self._refresh()
        every = wanted(self._repository)
        for name in names:
            roll = Roll(self._repository, self._door, self._watch, name, every.get(name, Wanted()))
            before = self._told.get(name)
            roll.told.serving = before.serving if before else roll.number
            self._told[name] = roll.told
            roll.run()
            if before and before != roll.told:
                others = f", {', '.join(map(str, roll.told.loaded))} loaded" if len(roll.told.loaded) > 1 else ""
                self._notice(f"{name}: version {roll.told.serving} serves{others}")
            for number, reason in roll.told.trouble.items():
                self._notice(f"{name}: version {number} isn't loaded: {reason}")


class Roll:
    """Way of one name from what is loaded to what the repository says."""

    def __init__(self, repository: Path, door: Door, watch: Watch | None, name: str, wanted: Wanted) -> None:
        self._repository, self._door, self._watch, self._name, self._wanted = repository, door, watch, name, wanted
        self.number = model_versions.serving(repository, name)
        self._target = target(model_config.read(repository / ensemble(name, "text")), name)
        self.told = Told(self.number)

    def run(self) -> None:
        """Load what is wanted, lead the plain name to what serves, unload the rest."""
        numbers = [number for number in self._wanted.beside if number in kept(self._repository, self._name)]
        for number in numbers:
            self._load_beside(number)
        if self._is_elsewhere():
            self._go_over()
        self.told.serving = self.number
        good = {versioned(self._name, number) for number in numbers if number not in self.told.trouble}
        self._unload({self._target, *good})
        self.told.loaded = sorted({self.number, *(number for number in numbers if number not in self.told.trouble)})

    def _load_beside(self, number: int) -> None:
        own = versioned(self._name, number)
        if own == self._target or (self._ready(ensemble(own, "text")) and self._ready(ensemble(own, "image"))):
            return
        try:
            self._check_memory(own)
            self._load_version(own)
        except ClipError as problem:
            self.told.trouble[number] = str(problem)

    def _load_version(self, own: str) -> None:
        """Load one model after the other: their starts, side by side, would take the cores from what serves."""
        for tower in TOWERS:
            for model in reversed(models(own, tower)):
                self._door.load(model)
        leftovers.close_own()
        if self._watch:
            self._watch.find()

    def _check_memory(self, own: str) -> None:
        if not self._watch:
            return
        served = _loaded_target(self._door.index(), self._name)
        measured = self._watch.memory(model for tower in TOWERS for model in models(served, tower))
        memory_check.check(self._repository, served, own, measured)

    def _is_elsewhere(self) -> bool:
        """Tell if the plain name leads to another version than the repository says."""
        return any(not self._ready(model, str(self.number)) for tower in TOWERS for model in models(self._name, tower))

    def _go_over(self) -> None:
        """Lead the plain name to the version that should serve: the two ensembles first, which hold all requests of the SDK.

        The rest of the plain name follows once those have no request left on the version before, the preparers last: a client
        that sees both ends agree is answered by the new version everywhere. Clients stand still until then, so the processes
        of the version before, which take a second to end, aren't waited for in between.
        """
        leads = self._target != self._name
        if leads and self._wanted.alone:
            self._leave()
        if leads and not (self._ready(ensemble(self._target, "text")) and self._ready(ensemble(self._target, "image"))):
            self._load_version(self._target)
        for tower in TOWERS:
            self._reload(ensemble(self._name, tower))
        self._drained({ensemble(self._name, tower) for tower in TOWERS})
        rest = [part(self._name, tower) for part in (encoder, preparer) for tower in TOWERS]
        for model in rest:
            self._reload(model)
        self._drained(set(rest))
        if self._watch:
            self._watch.find()

    def _leave(self) -> None:
        """Unload the version that serves, before another is loaded; clients wait meanwhile, or are told that nothing serves."""
        served = _loaded_target(self._door.index(), self._name)
        plain = [model for tower in TOWERS for model in models(self._name, tower)]
        self._take_out([*plain, *(model for tower in TOWERS for model in models(served, tower))])

    def _unload(self, stay: set[str]) -> None:
        """Unload the models of versions that aren't wanted."""
        loaded = {model for model, _, state in self._door.index() if state == "READY"}
        gone = [model for model in loaded if (own := version_of(model)) and own not in stay and split(own)[0] == self._name]
        self._take_out(gone)

    def _take_out(self, gone: Iterable[str]) -> None:
        """Unload models: ensembles first, the others once those have no request left."""
        ensembles = {model for model in gone if model in {ensemble(_name_of(model), tower) for tower in TOWERS}}
        for group in (ensembles, set(gone) - ensembles):
            for model in sorted(group):
                if self._watch:
                    self._watch.forget(model)
                self._door.unload(model)
            self._drained(group)

    def _reload(self, model: str) -> None:
        """Read a model of the plain name anew; its process ends if it had one."""
        if self._watch:
            self._watch.forget(model)
        self._door.load(model)

    def _drained(self, names: set[str]) -> None:
        """Return once no version of these models that was taken out has a request left."""
        deadline = time.monotonic() + _DRAIN_S
        while any(model in names and state == "UNLOADING" for model, _, state in self._door.index()):
            if time.monotonic() > deadline:
                raise Timeout(f"requests of the version before don't end within {_DRAIN_S:g} s: it stays loaded")
            time.sleep(POLL_S / 4)

    def _ready(self, model: str, number: str = "") -> bool:
        return any(
            name == model and state == "READY" and number in ("", version) for name, version, state in self._door.index()
        )


def identity(repository: Path) -> str:
    """Return what tells a repository from others of the machine."""
    status = repository.stat()
    return f"{status.st_dev:x}-{status.st_ino:x}"


def _signature(repository: Path) -> tuple[Any, ...]:
    """Return what changes with every exchange of models, and with what is wanted."""
    state = repository / STATE_FILE
    return repository.stat().st_mtime_ns, state.read_bytes() if state.exists() else b""


def _name_of(model: str) -> str:
    return version_of(model) or model.removesuffix("_image").removesuffix("_text")


def _loaded_target(index: Iterable[tuple[str, str, str]], name: str) -> str:
    """Return the name of the models that serve now: a version's own with the plain name's number, else the plain ones."""
    ready = {(model, version) for model, version, state in index if state == "READY"}
    number = next((version for model, version in ready if model == ensemble(name, "text")), "")
    own = f"{name}.{number}"
    return own if any(model == ensemble(own, "text") for model, _ in ready) else name
