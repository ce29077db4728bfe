"""Second sets of all collections: begun, gone back to, dropped, and found again when a collection is opened."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_search.collection import Collection
from clip_search.errors import Conflict, NotFound, StorageFull
from clip_search.index.kinds import too_many
from clip_search.reembedding.inputs import Inputs
from clip_search.reembedding.second_life import Parts, SecondLife, check_free
from clip_search.storage import vector_sets
from clip_search.storage.schema import About
from clip_search.storage.vector_sets import Asked, SetNote, Sets


@dataclass(frozen=True)
class Wish:
    """Options of a re-embedding.

    Attributes:
        model: name or version of a published checkpoint.
        most_missing: share of the rows that may be left out of the new set.
        cores: share of the time in which it is worked on.
        thumbnails: embed a row's thumbnail where its picture can't be had.
    """

    model: str
    most_missing: float = 0.01
    cores: float = 0.5
    thumbnails: bool = False


class SecondSets:
    """Second sets by collection; safe to use from several threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()  # of who begins or drops one
        self._lives: dict[str, SecondLife] = {}

    def attach(self, collection: Collection, sets: Sets) -> None:
        """Go on with the second set of a collection that is being opened, if it has one."""
        if sets.other is not None and not collection.table.read_only:
            self._lives[collection.name] = SecondLife(self._parts, collection, sets)

    def start(self, collection: Collection, wish: Wish) -> dict[str, Any]:
        """Begin to embed a collection again, or go on with it; return how far it is.

        Raises:
            ReadOnly: it is another sidecar's.
            Conflict: it has a second set already.
            InvalidInput: it can't be embedded again, or too little of it.
            ContractMismatch, Unavailable, StorageFull: the model's, the disk's, the memory's.
        """
        collection.check_writable()
        with self._lock:
            asked = self._parts.models.asked(wish.model)
            life = self._lives.get(collection.name)
            check_free(life, asked[0] if asked else "")
            self._check_hopeless(collection, wish)
            if life is not None:
                life.check_model()
                life.go(_wished(life.note, wish))
                return life.state()
            spec = self._new_spec(collection, asked)
            note = SetNote("filling", *(asked or ("", False)), spec.space, *(collection.model or ("", False)),
                           origin=vector_sets.origin(collection.table.schema))  # fmt: skip
            about = About(spec.embedding_size, spec.fingerprint, spec.inherited_space)
            made = self._parts.database.create_set(collection.name, collection.table.schema, about, _wished(note, wish))
            life = SecondLife(self._parts, collection, Sets(collection.table.name, made, _wished(note, wish)))
            self._lives[collection.name] = life
            return life.state()

    def back(self, collection: Collection, model: str = "") -> dict[str, Any]:
        """Go back to the set that is kept, once it has what came since; return how far it is.

        Args:
            model: name or version by which its checkpoint is asked for now; as before if empty.

        Raises:
            NotFound: there is none.
            Conflict: it is under way, or that set never served.
            ContractMismatch, Unavailable: its model isn't served.
        """
        collection.check_writable()
        with self._lock:
            life = self._life(collection.name)
            if life.note.state == "filling" or life.is_under_way:
                raise Conflict(f"collection {collection.name} goes over already: its statistics tell how far")
            asked = self._parts.models.asked(model) if model else None
            life.check_model(asked)
            life.go(_renamed(life.note, asked) if asked else None)
            return life.state()

    def drop(self, name: str) -> dict[str, Any]:
        """Remove the set that doesn't serve, for good; return its model, and the number of rows that were in it alone.

        Raises:
            ReadOnly: it is another sidecar's.
            NotFound: there is none.
            Busy: it is being indexed.
            ClipError: it can't be removed.
        """
        self._parts.database.check_owner()
        with self._lock:
            life = self._life(name)
            told = life.state()
            only_there = life.drop()
            del self._lives[name]
        return {"dropped": name, "model": told["model"], "space": told["space"], "rows_only_there": only_there}

    def let_go(self, name: str) -> None:
        """Stop the work on a collection that is to be dropped; raise Busy if it can't be stopped soon."""
        with self._lock:
            life = self._lives.get(name)
            if life:
                life.end()
                del self._lives[name]

    def state(self, name: str) -> dict[str, Any] | None:
        """Return how far the second set of a collection is; None if it has none."""
        life = self._lives.get(name)
        return life.state() if life else None

    def left_out(self, name: str, after: int, limit: int) -> list[dict[str, object]]:
        """Return rows that aren't in the newer set of a collection, with the reasons; raise NotFound if there is none."""
        return self._life(name).left_out(after, limit)

    def states(self) -> Mapping[str, dict[str, Any]]:
        """Return :meth:`state` of all collections that have a second set."""
        return {name: life.state() for name, life in sorted(self._lives.copy().items())}

    def close(self) -> None:
        """Stop all work; it goes on where it was once the collections are opened again."""
        lives = list(self._lives.copy().values())
        for life in lives:
            life.stop()
        for life in lives:
            life.join()

    def _life(self, name: str) -> SecondLife:
        if life := self._lives.get(name):
            return life
        raise NotFound(nothing(name))

    def _new_spec(self, collection: Collection, asked: Asked) -> ModelSpec:
        """Return the spec of the model to embed with; raises as :meth:`start`."""
        options = self._parts.options
        if options.index.engine == "milvus":
            raise InvalidInput("--engine milvus can't embed a collection again: add its sources to a new collection")
        spec = self._parts.models.named(asked).spec
        if spec.space == collection.about.space:
            raise InvalidInput(
                f"collection {collection.name} is of the space of {spec.name} already ({spec.space}): name another model, --to"
            )
        if options.index.engine == "faiss":
            vectors = 2 * sum(engine.size() for engine in collection.engines.values())
            if reason := too_many(vectors, max(spec.embedding_size, collection.about.size), options.index.memory_bytes):
                raise StorageFull(f"two sets of collection {collection.name}: {reason}")
        return spec

    def _check_hopeless(self, collection: Collection, wish: Wish) -> None:
        """Raise InvalidInput if more rows can't be embedded than may be missing, as far as that is known before."""
        parts = self._parts
        source = Inputs(parts.image, parts.fetched, parts.options.fetch, wish.thumbnails)
        rows, hopeless = len(collection.table), source.hopeless(collection.table)
        if rows and hopeless / rows > wish.most_missing:
            thumbnails = "" if wish.thumbnails else ", or --thumbnails to embed small pictures for them"
            raise InvalidInput(
                f"{hopeless:,} of {rows:,} rows can't be embedded again: they have no source that this sidecar may read, or "
                f"came as vectors; let them be missing, --missing {min(1, hopeless / rows + 0.005):.2f}{thumbnails}"
            )


def nothing(name: str) -> str:
    """Return the message on a collection without a second set."""
    return f"collection {name} has no second set of vectors: clipserve search reembed {name} --to MODEL makes one"


def _wished(note: SetNote, wish: Wish) -> SetNote:
    return replace(note, most_missing=wish.most_missing, cores=wish.cores, thumbnails=wish.thumbnails)


def _renamed(note: SetNote, asked: tuple[str, bool]) -> SetNote:
    """Return a note with another name for the checkpoint of the set that doesn't serve."""
    if note.state == "serving":
        return replace(note, before=asked[0], before_is_next=asked[1])
    return replace(note, model=asked[0], is_next=asked[1])
