"""Search over embeddings: a LanceDB store, a faiss index derived from it, HTTP, a page."""

from clip_search import moved

moved.install()
