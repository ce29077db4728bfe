"""Small commands of the SDK: ``clipserve compare``, ``clipserve classify``, ``clipserve info``."""
