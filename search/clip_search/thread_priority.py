"""Priority of threads: work in the background takes a tenth of what a search gets."""

import os
import sys
import threading

_NICER, _NICEST = 10, 19


def step_back() -> None:
    """Lower the priority of this thread for good, and of those that it starts; outside of Linux only processes have one."""
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + _NICER, _NICEST))
