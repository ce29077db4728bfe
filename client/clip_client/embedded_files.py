"""Names in files of embeddings, which one package writes and others read."""

from __future__ import annotations

from collections.abc import Mapping

from clip_client.spec import Tower

FOLDERS: Mapping[Tower, str] = {"image": "img_emb", "text": "text_emb"}
"""Folders of vectors in clip-retrieval's layout: https://github.com/rom1504/clip-retrieval."""

FINGERPRINT = b"clipserve.fingerprint"
"""Key in the metadata of a schema: the checkpoint that made the vectors."""

RUN = b"clipserve.run"
"""Key in the metadata of a schema: the run that wrote the file, the same each time a run is repeated."""

PART_FILE = r"(?:part-|metadata_)([0-9]+)"
"""Stem of a part's file, with its number."""

THUMBNAIL = "thumbnail"
"""Column of small JPEGs."""
