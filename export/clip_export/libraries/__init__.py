"""Libraries that checkpoints come from: each embeds through its own public functions, to compare ours with."""
