"""Flags of tritonserver for its log and its spans."""

from pathlib import Path

from clip_client.trace_export import endpoint

_NEVER = 2**31 - 1  # one request of so many


def logs_requests(level: str) -> bool:
    """Tell if each request is in a log of this level."""
    return level in ("debug", "info")


def log_flags(log: Path | None, level: str) -> list[str]:
    """Return the flags of a log of this level: in a file in full."""
    flags = [f"--log-file={log.resolve()}"] if log else []
    if not (log or logs_requests(level)):
        flags.append("--log-info=false")
    if level == "error":
        flags.append("--log-warning=false")
    return [*flags, *(["--log-verbose=1"] if level == "debug" else [])]


def trace_flags(url: str, share: float) -> list[str]:
    """Return the flags for spans of its steps, none without a collector; requests that bring a trace are always in it."""
    if not url:
        return []
    rate = max(1, round(1 / share)) if share else _NEVER
    words = ("mode=opentelemetry", "level=TIMESTAMPS", f"rate={rate}")
    collector = (f"opentelemetry,url={endpoint(url)}", "opentelemetry,resource=service.name=clipserve-triton")
    return [f"--trace-config={word}" for word in (*words, *collector)]
