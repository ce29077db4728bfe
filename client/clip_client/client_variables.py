"""Variables of the environment with which clients begin, read when one is made; what is passed to it goes before them."""

ADDRESS, TOKEN = "CLIPSERVE_ADDRESS", "CLIPSERVE_TOKEN"
"""Addresses of Triton, commas between them, and the token that is sent there."""

URL, SEARCH_TOKEN = "CLIPSERVE_URL", "CLIPSERVE_SEARCH_TOKEN"
"""URL of the sidecar, and its token, which the sidecar itself asks for where it finds the variable."""

CA, CERTIFICATE, KEY = "CLIPSERVE_CA", "CLIPSERVE_CERTIFICATE", "CLIPSERVE_KEY"
"""Paths of the certificates in :class:`clip_client.Tls`."""
