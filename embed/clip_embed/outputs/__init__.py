"""Outputs: each kind turns the rows of a part into its files."""
