"""Folders of pictures, as collections hold them."""
