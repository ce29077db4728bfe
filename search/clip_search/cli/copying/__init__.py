"""``clipserve search copy``: a collection to another database or sidecar."""
