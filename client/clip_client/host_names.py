"""Host names of requests: addresses are told from names, which somebody else's DNS may point at this machine."""

import ipaddress


def is_address(host: str) -> bool:
    """Tell if a host is an IP address, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell if a host is this machine by its name or address."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
