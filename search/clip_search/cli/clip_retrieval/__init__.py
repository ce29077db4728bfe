"""Folders in clip-retrieval's format: written and read."""
