"""Checkpoint -> towers -> variants -> gate -> model repository."""

from clip_client import former_names, no_telemetry
from clip_export.moved import NOW

no_telemetry.forbid()
former_names.add(__name__, NOW)
