"""Messages of other libraries' exceptions, in one line."""

_LONGEST = 300  # characters; some libraries' messages fill a page
_STACK = "Exception from "  # begins each line of OpenVINO's stack, which stands before its message


def one_line(problem: BaseException) -> str:
    """Return the type of an exception and the first line of its message, without a C++ library's stack."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    first, *rest = [line for line in lines if not line.startswith(_STACK)] or lines or [""]
    message = f"{first} {rest[0]}" if rest and first.endswith(":") else first  # the reason follows, as torch.compile has it
    return f"{type(problem).__name__}: {message[:_LONGEST]}".rstrip(": ")
