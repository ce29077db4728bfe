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
INDEX = ".safetensors.index.json"
"""Suffix of the file that lists shards."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

MERGED_FROM = "merged_from.json"
"""Folders of the base and of the adapter that a folder of both together was made from."""

SETTINGS = (".json", ".txt", ".model")
"""Suffixes of all files besides the weights."""

HUB_PATTERNS = [f"*{suffix}" for suffix in (*SETTINGS, SAFETENSORS)]  # nothing that could run

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", WEIGHTS)
OPEN_CLIP_TOKENIZER_PATTERNS = ["tokenizer*.json", "special_tokens_map.json", "vocab.*", "merges.txt"]
OPEN_CLIP_HUB_PATTERNS = [OPEN_CLIP_CONFIG, *OPEN_CLIP_WEIGHTS[:2], *OPEN_CLIP_TOKENIZER_PATTERNS]
