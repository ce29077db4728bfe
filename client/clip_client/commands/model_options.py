"""Options of commands that need a checkpoint: on a server, or without one."""

from __future__ import annotations

import argparse
from pathlib import Path

from clip_client.clip import Clip
from clip_client.ports import TRITON_ADDRESS


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`opened`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--address", metavar="HOST:PORT", help=f"of Triton; that in CLIPSERVE_ADDRESS if left out, else {TRITON_ADDRESS}"
    )
    group.add_argument("--local", type=Path, metavar="REPOSITORY", help="no server: run the models of this repository here")
    parser.add_argument("--name", default="clip", help="what the checkpoint was published as (default: clip)")


def opened(arguments: argparse.Namespace) -> Clip:
    """Return a client of the server that was named, or of the repository; raises as :class:`Clip` and :meth:`Clip.local`."""
    if arguments.local is not None:
        return Clip.local(arguments.local, name=arguments.name)
    return Clip(arguments.address, name=arguments.name) if arguments.address else Clip(name=arguments.name)
