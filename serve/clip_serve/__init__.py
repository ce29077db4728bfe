"""Triton without Docker: launcher, Triton's own Python environment, health gateway."""

from clip_client import former_names
from clip_serve.moved import NOW

former_names.add(__name__, NOW)
