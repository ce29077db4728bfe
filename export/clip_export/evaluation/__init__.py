"""Evaluation: pictures and texts to judge variants on, retrieval scores, and the gate that a variant must pass."""
