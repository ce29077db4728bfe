"""Folders of vectors and metadata that other programs, or clipserve embed, wrote."""
