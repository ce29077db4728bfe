"""Digests by which the hub names the content of files."""

from __future__ import annotations

from pathlib import Path

_SHA256 = 64  # hexadecimal digits; git's SHA-1 has 40


def is_large(digest: str) -> bool:
    """Tell a digest of Git LFS, a SHA-256, from git's own."""
    return len(digest) == _SHA256


def of(path: Path, like: str) -> str:
    """Return a file's digest of the same kind as another one: SHA-256, else git's of a small file."""
    from huggingface_hub.utils.sha import git_hash, sha_fileobj

    if is_large(like):
        with path.open("rb") as file:
            return sha_fileobj(file).hex()
    return git_hash(path.read_bytes())
