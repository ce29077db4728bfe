"""Versions of a checkpoint: publishing beside the one that serves, and going over in one step."""
