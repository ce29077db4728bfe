"""Triton without Docker: launcher, Triton's own Python environment, health gateway."""
