"""Checkpoint -> towers -> variants -> gate -> model repository."""

from clip_client import former_names
from clip_export.moved import NOW

former_names.add(__name__, NOW)
