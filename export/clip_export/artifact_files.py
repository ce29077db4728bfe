"""Names of the files in ``artifacts/<checkpoint>/`` and in its ``<variant>/<tower>/``."""

from __future__ import annotations

from clip_client.spec import SPEC_FILE

# Of an artefact, beside its weights. The record goes into the model repository, too.
BUILD_RECORD, EMBEDDINGS = "report.json", "embeddings.npy"
NOT_WEIGHTS = (SPEC_FILE, BUILD_RECORD, EMBEDDINGS)

# Of a checkpoint.
REPORT_JSON, REPORT_MD = "report.json", "report.md"
SPEED_AGAINST_LOSS, LATENCY_BY_BATCH = "speed-against-loss.png", "latency-by-batch.png"
LIBRARY_RECORD, SPEED_RECORD, TOWERS_RECORD = "library.json", "speed.json", "towers.json"
TIMING_CACHE = "tensorrt-timing.cache"
BASELINE = "baseline"  # embeddings of the evaluation by the baseline, by tower
LOCK = ".lock"
