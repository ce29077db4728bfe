"""Refusal of a request, with the status of its answer."""

from clip_client.errors import ClipError


class Refused(ClipError):
    """Refusal of a request, with the status of the answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
