"""Checkpoints on disk or on the hub: their files, image processors and tokenizers."""
