"""Bulk embedding: long lists of pictures and texts to files, in parts that are whole or aren't there."""
