"""Names of the files that checkpoints consist of."""

from __future__ import annotations

import re

from clip_client.spec import TOKENIZER_FILE

CONFIG = "config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", TOKENIZER_FILE)
VOCABULARIES = (TOKENIZER_FILE, "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files of which a tokenizer needs at least one."""

SAFETENSORS = ".safetensors"
WEIGHTS, SHARDS = "model.safetensors", "model-*-of-*.safetensors"
INDEX = ".safetensors.index.json"
"""Suffix of the file that lists shards."""
SHARD_INDEX = f"model{INDEX}"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
OPEN_CLIP_PICKLE = "open_clip_pytorch_model.bin"
PICKLED = (PICKLE, PICKLE_INDEX, OPEN_CLIP_PICKLE, "open_clip_model.bin", "pytorch_model-00001-of-*.bin")
"""Names of pickled weights, and of the list of their parts, as transformers and open_clip write them."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLES = tuple(f"*{suffix}" for suffix in PICKLE_SUFFIXES)
NO_MODEL = ("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "random_states_*")
"""Pickles of training loops beside a model."""

MERGED_FROM = "merged_from.json"
"""Folders of the base and of the adapter that a folder of both together was made from."""

SETTINGS = (".json", ".txt", ".model")
"""Suffixes of all files besides the weights."""

UNREAD_SETTINGS = re.compile(
    r"^(readme|licen[cs]e|notice|requirements|trainer_state|training_args|(all|eval|train|test)_results)\b|index\.json$",
    re.IGNORECASE,
)
"""Files with such a suffix that nobody reads."""

MODULES = "modules.json"
"""List of modules of a folder of sentence-transformers."""

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_SAFETENSORS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
OPEN_CLIP_WEIGHTS = (*OPEN_CLIP_SAFETENSORS, WEIGHTS)
OPEN_CLIP_TOKENIZER_PATTERNS = ["tokenizer*.json", "special_tokens_map.json", "vocab.*", "merges.txt"]
