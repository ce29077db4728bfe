"""Engines: what embeds chunks, in this process or on servers."""
