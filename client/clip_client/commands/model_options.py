"""Options of commands that need a checkpoint: on a server, or without one."""

from __future__ import annotations

import argparse
from pathlib import Path

from clip_client.client_variables import ADDRESS, TOKEN
from clip_client.clip import Clip
from clip_client.ports import TRITON_ADDRESS
from clip_client.token_files import token_in


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`opened`."""
    group = parser.add_mutually_exclusive_group()
    _add_address(group)
    group.add_argument("--local", type=Path, metavar="REPOSITORY", help="no server: run the models of this repository here")
    _add_others(parser)


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`client_of`."""
    _add_address(parser)
    _add_others(parser)


def opened(arguments: argparse.Namespace) -> Clip:
    """Return a client of the server that was named, or of the repository; raises as :class:`Clip` and :meth:`Clip.local`."""
    return client_of(arguments) if arguments.local is None else Clip.local(arguments.local, name=arguments.name)


def client_of(arguments: argparse.Namespace, timeout_s: float = 30.0) -> Clip:
    """Return a client of the server that was named; raises as :class:`Clip`, and InvalidInput if the token can't be read."""
    token = token_in(arguments.token_file) if arguments.token_file else None
    return Clip(arguments.address, name=arguments.name, timeout_s=timeout_s, token=token)


def _add_address(options: argparse._ActionsContainer) -> None:
    options.add_argument(
        "--address", metavar="HOST:PORT", help=f"of Triton, or a URL; that in {ADDRESS} if left out, else {TRITON_ADDRESS}"
    )


def _add_others(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"token to send; that in {TOKEN} if left out")
    parser.add_argument("--name", default="clip", help="what the checkpoint was published as (default: clip)")
