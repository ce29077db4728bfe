"""A run from start to end: export, servers, pictures, page, until a signal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from clip_client import command_runner
from clip_client.command_runner import is_terminal
from clip_client.errors import InvalidInput, Unavailable
from clip_client.search import Search
from clip_client.spec import ModelSpec
from clip_serve.up import page, places, published, servers, sources
from clip_serve.up.adding import Job, add, collection_for, is_about_gone, tell
from clip_serve.up.embedding import Embedded
from clip_serve.up.following import Followed, follow
from clip_serve.up.messages import say
from clip_serve.up.options import Options
from clip_serve.up.ownership import Owner, Place
from clip_serve.up.servers import Served
from clip_serve.up.snapshot import taken
from clip_serve.up.sources import Pictures
from clip_serve.up.stop import Stop, Stopped

_ASK_S = 30.0  # patience with an answer of the search
_POLL_S = 0.2

_LATER = ". Pictures that come, change or go meanwhile are taken at the next start; with --watch within seconds"

Then = Callable[[Search, str], None]
"""Gets a client and the collection's name once the pictures are in."""


def run(options: Options, then: Then = lambda search, collection: None) -> int:
    """Bring everything up; return the exit status.

    In a terminal, with ``watch``, and where nothing is to be added, it stays up until a signal, else it ends once all is
    added. Another run that has the database gets the pictures, and stays up.

    Raises:
        InvalidInput: an option, the pictures or the published checkpoint can't be used.
        Unavailable: a part ended by itself.
    """
    pictures = sources.opened(options)
    options = places.chosen(options)
    with Stop() as stop:
        whole = _Run(options, pictures, stop, then)
        try:
            return whole.run()
        except Stopped:
            return 0 if whole.is_up else command_runner.INTERRUPTED


@dataclass
class _Run:
    """A run.

    Attributes:
        is_up: true once the pictures are in and the page is up.
    """

    options: Options
    pictures: Pictures | Embedded | None
    stop: Stop
    then: Then
    is_up: bool = False

    def run(self) -> int:
        """Own the database, or join the run that does."""
        place, is_told = Place(self.options.data), False
        while True:
            with place.owned() as is_ours:
                if is_ours:
                    return self._own(place)
            owner = place.owner()
            if owner and owner.url:
                return self._join(place, owner)
            if owner and not is_told:
                say(f"process {owner.pid} is starting with {self.options.data.absolute()}: waiting for its page")
                is_told = True
            self.stop.wait(_POLL_S)

    def _own(self, place: Place) -> int:
        """Start everything, and end it."""
        spec = published.ensure(self.options, self.stop)
        left_out = self._prepared(place, spec)
        images = place.shown(self._shown)
        with servers.running(self.options, spec, images, self.stop) as served:
            place.tell(Owner(os.getpid(), served.url, served.model, served.fingerprint))
            return self._fill(served, left_out, stays=self.pictures is None or is_terminal(sys.stdout))

    def _join(self, place: Place, owner: Owner) -> int:
        """Give the pictures to another run."""
        data, model = self.options.data.absolute(), self.options.model
        has = f"process {owner.pid} has {data}, with {owner.model} at {owner.url}"
        if model not in (None, owner.model):
            raise InvalidInput(f"{has}: stop it to serve {model}, or pass another --data")
        say(has)
        left_out, before = self._prepared(place, None), place.shown_before()
        if not {str(path) for path in place.shown(self._shown)} <= set(before):
            say("it shows these pictures small until it is started again, then in full too")
        served = Served(owner.url, owner.model, owner.fingerprint, partial(_check, place, owner))
        return self._fill(served, left_out, stays=False)

    def _prepared(self, place: Place, spec: ModelSpec | None) -> int:
        """Prepare the pictures; return the number of entries left out."""
        if isinstance(self.pictures, Embedded):
            return self.pictures.prepare(place, spec or published.ensure(self.options, self.stop), self.stop)
        return self.pictures.prepare(place, self.stop) if self.pictures else 0

    @property
    def _shown(self) -> Sequence[Path]:
        return self.pictures.shown if self.pictures and not isinstance(self.pictures, Embedded) else []

    def _fill(self, served: Served, left_out: int, *, stays: bool) -> int:
        """Add the pictures, open the page, and follow the pictures or wait."""
        say(f"the page: {served.url}")
        with Search(served.url, timeout_s=_ASK_S) as search:
            collection = None
            if self.pictures:
                collection = collection_for(search, served, self.options.collection, self.stop)
            followed, more = self._add(search, served, collection) if collection else (None, 0)
            left_out += more
            page.open_page(page.address(served.url, collection), self.options.opens)
            self.is_up = True
            if followed and self.options.pictures and self.options.watch:
                say(f"watching {Path(self.options.pictures).absolute()}; Ctrl-C ends it")
                follow(followed, served, search, self.stop)
            elif stays:
                say(f"search at {served.url}; Ctrl-C ends it{_LATER if followed else ''}")
            while stays:
                self.stop.wait(_POLL_S)
                served.check()
        return command_runner.FAILED if left_out else 0

    def _add(self, search: Search, served: Served, collection: str) -> tuple[Followed | None, int]:
        """Add the pictures; return what is to be followed, and the number of those left out."""
        if self.pictures is None:
            return None, 0
        if isinstance(self.pictures, Embedded):
            left_out = self.pictures.add(collection, served, self.stop).left_out
            if not left_out:
                self.pictures.remove_former(search, collection)
            self.then(search, collection)
            return None, left_out
        job = Job(self.pictures.folder, collection, self.options.metadata)
        state = taken(job.folder)
        if state is None:
            raise InvalidInput(f"{job.folder} vanished: nothing was added")
        own = 0 if state.is_empty else add(job, served, self.stop, out=self._told).left_out
        self.then(search, collection)
        refresh = partial(self.pictures.refresh, self.stop)
        return Followed(job, state, own, refresh, self.pictures.has_events), own

    def _told(self, line: str) -> None:
        """Print a line of the adding."""
        if not (self.options.watch and is_about_gone(line)):  # those rows go in a moment
            tell(line)


def _check(place: Place, owner: Owner) -> None:
    if place.owner() != owner or not psutil.pid_exists(owner.pid):
        raise Unavailable(f"process {owner.pid}, which had the page at {owner.url}, has ended: start again")
