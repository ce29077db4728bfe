"""Kinship of models and collections: whose vectors can be compared."""

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_search.collection import Collection
from clip_search.embedder import Embedder


def check_spec(collection: Collection, spec: ModelSpec) -> None:
    """Raise ContractMismatch for a model of another space than the vectors', InvalidInput for another length."""
    collection.about.check_space(spec, collection.name)
    if spec.embedding_size != collection.about.size:
        raise InvalidInput(
            f"collection {collection.name} holds vectors of {collection.about.size}, the served model makes "
            f"{spec.embedding_size}: search it by vector, or serve its model"
        )


def is_kin(collection: Collection, fingerprint: str, embedder: Embedder) -> bool:
    """Tell if a fingerprint is that of a model of the collection's space, as far as its embedder knows or knew."""
    if fingerprint in ("", collection.about.fingerprint, *collection.kin):
        return fingerprint in collection.kin
    spec = embedder.known()
    if spec and (fingerprint, collection.about.space) == (spec.fingerprint, spec.space):
        collection.kin.add(fingerprint)
    return fingerprint in collection.kin
