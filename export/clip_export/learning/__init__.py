"""``clipserve learn``: a checkpoint's text tower, tuned on what people chose."""
