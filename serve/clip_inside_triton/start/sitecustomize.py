"""Start of every Python process of the server; Python imports a module of this name by itself."""

import fcntl
import os
import select
import signal
import sys

sys.dont_write_bytecode = True  # a model repository is read, not written

# As clip_client.no_telemetry has it, which can't be imported yet: engines tell their makers nothing of their use.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)


def end_with_launcher(lifeline):
    """Have the kernel kill this process when the launcher, which holds the other end of a pipe, is gone.

    Triton's own watch over its Python processes misses some under load, and PR_SET_PDEATHSIG looks at the parent's thread,
    which may end before its process.
    """
    # Opened anew: owner and signal belong to an open file, and the inherited one is shared by all processes of the server.
    pipe = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if select.select([pipe], [], [], 0)[0]:  # it was gone before
        os._exit(1)


if "CLIPSERVE_LIFELINE" in os.environ:
    end_with_launcher(int(os.environ["CLIPSERVE_LIFELINE"]))

    import wide_shapes

    wide_shapes.replace_function()
