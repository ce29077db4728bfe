"""Search over embeddings: a LanceDB store, a faiss index derived from it, HTTP, a page."""

from clip_client import former_names
from clip_search.moved import NOW

former_names.add(__name__, NOW)
