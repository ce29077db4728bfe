"""``clipserve search``: the sidecar's command line, and its client's."""
