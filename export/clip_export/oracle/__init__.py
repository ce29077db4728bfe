"""Oracle: our preprocessing, tokenizer and torch towers compared with the checkpoint's own library."""
