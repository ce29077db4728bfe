"""Names of the files that checkpoints consist of."""

from __future__ import annotations

from clip_client.spec import TOKENIZER_FILE

CONFIG = "config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", TOKENIZER_FILE)
VOCABULARIES = (TOKENIZER_FILE, "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files of which a tokenizer needs at least one."""

SAFETENSORS = ".safetensors"
WEIGHTS, SHARDS = "model.safetensors", "model-*-of-*.safetensors"
OPEN_CLIP_PICKLED = ("open_clip_pytorch_model.bin", "open_clip_model.bin")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-00001-of-*.bin", *OPEN_CLIP_PICKLED)
"""Names of pickled weights, and of the list of their parts, as transformers and open_clip write them."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLES = tuple(f"*{suffix}" for suffix in PICKLE_SUFFIXES)
NO_MODEL = ("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "random_states_*")
"""Pickles of training loops beside a model."""

SETTINGS = (".json", ".txt", ".model")
"""Suffixes of all files besides the weights."""

HUB_PATTERNS = [f"*{suffix}" for suffix in (*SETTINGS, SAFETENSORS)]  # nothing that could run

MODULES = "modules.json"
"""List of modules of a folder of sentence-transformers."""

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", WEIGHTS)
OPEN_CLIP_TOKENIZER_PATTERNS = ["tokenizer*.json", "special_tokens_map.json", "vocab.*", "merges.txt"]
OPEN_CLIP_HUB_PATTERNS = [OPEN_CLIP_CONFIG, *OPEN_CLIP_WEIGHTS[:2], *OPEN_CLIP_TOKENIZER_PATTERNS]
