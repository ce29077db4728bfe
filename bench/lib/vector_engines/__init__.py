"""Engines of vectors under one interface, for the bench that compares them."""
