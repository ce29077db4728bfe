"""Users for locust: images and texts to Triton, searches and adds to the sidecar; every answer is checked.

locust -f loadtest/locustfile.py                                            # web UI; --class-picker lets users be chosen there
locust -f loadtest/locustfile.py --headless -u 16 -t 1m ImageUser TextUser
"""

import random
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import grpc.experimental.gevent
import numpy as np
from locust import User, constant_pacing, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from clip_client import ports
from clip_client.errors import ClipError
from clip_client.search import Row, Term

sys.path.append(str(Path(__file__).parents[1] / "bench"))  # its lib is shared

from answers import check_hits, check_scores
from samples import fresh_text
from scenario import Searching, Serving
from session import Session

# gRPC waits in C, where gevent can't switch to another user: without this, one user at a time would be served.
grpc.experimental.gevent.init_gevent()

T = TypeVar("T")
ADDED = 20


class CheckingUser(User):
    """User that sends requests, times them and checks the answers."""

    abstract = True
    kind: ClassVar[str]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.draw = random.Random()

    def ask(self, name: str, call: Callable[[], T], check: Callable[[T], None] = lambda answer: None) -> None:
        """Report one request to locust; a wrong answer is a failure too, and the check takes none of the request's time."""
        problem: ClipError | None = None
        start = time.perf_counter()
        try:
            answer = call()
            elapsed_s = time.perf_counter() - start
            check(answer)
        except ClipError as error:
            problem, elapsed_s = error, time.perf_counter() - start
        self.environment.events.request.fire(
            request_type=self.kind,
            name=name,
            response_time=1000 * elapsed_s,
            response_length=0,
            exception=problem,
            context={},
        )


class TritonUser(CheckingUser):
    """User of Triton."""

    abstract = True
    kind = "gRPC"
    serving: ClassVar[Serving]


class ImageUser(TritonUser):
    """User that embeds pictures; a share of them is damaged, see --corrupt."""

    @task
    def image(self) -> None:
        """Embed a picture, or send a damaged one."""
        serving = self.serving
        if self.draw.random() < serving.corrupt:
            damaged = self.draw.choice(serving.samples.corrupt)
            return self.ask("corrupt image", lambda: serving.refuse(damaged))
        n = self.draw.randrange(len(serving.samples.images))
        image, known = serving.samples.images[n], n if n < len(serving.images.embeddings) else None
        self.ask("image", lambda: serving.clip.embed_image(image), lambda answer: serving.images.check(answer, known))


class TextUser(TritonUser):
    """User that embeds texts; one of four is known."""

    @task(3)
    def fresh(self) -> None:
        """Embed a text that nobody has sent."""
        text = fresh_text(self.draw)
        self.ask("text", lambda: self.serving.clip.embed_text(text), lambda answer: self.serving.texts.check(answer, None))

    @task
    def known(self) -> None:
        """Embed a text whose embedding is known."""
        serving, n = self.serving, self.draw.randrange(len(self.serving.samples.texts))
        text = serving.samples.texts[n]
        self.ask("text", lambda: serving.clip.embed_text(text), lambda answer: serving.texts.check(answer, n))


class SidecarUser(CheckingUser):
    """User of the search sidecar."""

    abstract = True
    kind = "HTTP"
    searching: ClassVar[Searching]


class SearchUser(SidecarUser):
    """User that searches by text, by picture and by both."""

    @task(3)
    def text(self) -> None:
        """Search for a new text."""
        self._search("search: text", Term(text=fresh_text(self.draw)))

    @task
    def image(self) -> None:
        """Search for a picture of the collection, which must come first."""
        n = self.draw.randrange(len(self.searching.images))
        self._search("search: image", Term(image=self.searching.images[n]), first=f"image{n}")

    @task
    def mix(self) -> None:
        """Search for a picture and a text."""
        image = Term(image=self.draw.choice(self.searching.images), weight=2)
        self._search("search: mix", image, Term(text=fresh_text(self.draw)))

    def _search(self, name: str, *terms: Term, first: str | None = None) -> None:
        shared = self.searching
        self.ask(name, lambda: shared.search.query(shared.collection, terms), lambda hits: check_hits(hits, first))


class AddingUser(SidecarUser):
    """User that adds rows ten times a second, and searches for one of them at once."""

    wait_time = constant_pacing(0.1)

    @task
    def add(self) -> None:
        """Add ready vectors; the first must be a hit."""
        shared, prefix = self.searching, secrets.token_hex(8)
        vectors = shared.vectors(ADDED, np.random.default_rng())
        rows = [Row(id=f"{prefix}{n}", vector=vector) for n, vector in enumerate(vectors)]
        self.ask(f"add {ADDED} rows", lambda: shared.search.add(shared.collection, rows))
        term = Term(vector=vectors[0])
        self.ask(
            "search: just added",
            lambda: shared.search.query(shared.collection, term),
            lambda hits: check_hits(hits, f"{prefix}0"),
        )


class ClipRetrievalUser(SidecarUser):
    """User that searches for texts as clip-retrieval's clients do."""

    @task
    def knn(self) -> None:
        """Search for a new text."""
        text = fresh_text(self.draw)
        self.ask(
            "/knn-service", lambda: self.searching.knn(text), lambda hits: check_scores([hit["similarity"] for hit in hits])
        )


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    """Add the options of a load to locust's own; the web UI shows them too."""
    group = parser.add_argument_group("clipserve")
    group.add_argument(
        "--triton", default=ports.TRITON_ADDRESS, metavar="HOST:PORT", help="gRPC endpoint (default: %(default)s)"
    )
    group.add_argument("--name", default="clip", help="name of the published checkpoint (default: %(default)s)")
    group.add_argument("--sidecar", default=ports.SEARCH_URL, metavar="URL", help="search sidecar (default: %(default)s)")
    group.add_argument("--photos", default="", metavar="FOLDER", help="pictures to send (default: bundled drawings, enlarged)")
    group.add_argument("--corrupt", type=float, default=0.0, metavar="SHARE", help="of damaged images, 0 to 1 (default: 0)")
    group.add_argument("--report", default="artifacts/load", metavar="FOLDER", help="for the report (default: %(default)s)")


@events.init.add_listener
def init(environment: Environment, **_: Any) -> None:
    """Start a session, with users of Triton alone unless others are chosen: there may be no sidecar."""
    chosen: Any = environment.parsed_options
    if not chosen.user_classes and not chosen.class_picker:
        environment.user_classes = [ImageUser, TextUser]
    environment.stop_timeout = environment.stop_timeout or 60  # let answers arrive, or the last would count as lost
    session = Session(environment, TritonUser, SidecarUser)
    environment.events.test_start.add_listener(session.begin)
    environment.events.test_stop.add_listener(session.end)
    environment.events.quitting.add_listener(session.quit)
    if chosen.headless:  # before the run time begins to count
        try:
            session.prepare()
        except ClipError as problem:
            sys.exit(str(problem))
