"""Rehearsal of faults: real servers under a checked load, while processes, disks and networks fail one after the other."""
