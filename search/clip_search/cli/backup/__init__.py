"""Commands ``clipserve search backup`` and ``restore``."""
