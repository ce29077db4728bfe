"""Default TCP ports of the two servers, and their addresses on this machine."""

HTTP, GRPC, METRICS = 8000, 8001, 8002
"""Triton's, for health checks, clients and Prometheus."""

SEARCH = 1234
"""The search sidecar's."""

TRITON_ADDRESS = f"localhost:{GRPC}"
SEARCH_URL = f"http://localhost:{SEARCH}"
