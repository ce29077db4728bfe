"""Checkpoint -> towers -> variants -> gate -> model repository."""
