"""Filters of clients, checked and rewritten as SQL."""
