"""Inputs: each kind cuts itself into parts, and reads a part as chunks."""
