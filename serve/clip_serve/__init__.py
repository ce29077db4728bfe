"""Triton without Docker: the launcher, the server's own environment, stand-ins for two native backends."""
