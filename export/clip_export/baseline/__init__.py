"""Baseline: a changed checkpoint beside its parent, on held-out clicks and on the labelled pictures of the evaluation."""
