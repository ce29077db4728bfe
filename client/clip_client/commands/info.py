"""``clipserve info``: what is installed, which engines and devices there are, what is served and published."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clip_client import help_texts
from clip_client.clip import Clip
from clip_client.command_runner import is_terminal
from clip_client.commands.installed import engines_here, installed
from clip_client.commands.model_options import add_server_options, client_of
from clip_client.commands.published import published
from clip_client.errors import ClipError
from clip_client.model_repository import FOLDER
from clip_client.printable_text import printable

_TIMEOUT_S = 5.0
_WIDTH = 14  # of the names in a terminal
_DOWN = "down"


def main(argv: Sequence[str] | None = None) -> int:
    """Print everything that can be told; a part that is down is named with its reason."""
    arguments = parser(argv).parse_args(argv)
    told = {
        "installed": installed(),
        "engines": engines_here(),
        "server": served(arguments),
        "repository": published(arguments.repository),
    }
    if arguments.json:
        print(json.dumps(told))
        return 0
    for name, text in _lines(told):
        print(f"{name:<{_WIDTH}}{printable(text)}" if is_terminal(sys.stdout) else f"{name}\t{printable(text)}")
    return 0


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="clipserve info",
        description="Tell what is installed, which engines and devices there are, what a server serves and a repository holds.",
        formatter_class=help_texts.Formatter,
    )
    add_server_options(made)
    made.add_argument("--repository", type=Path, default=FOLDER, metavar="DIR", help=f"of published models (default: {FOLDER})")
    made.add_argument("--json", action="store_true", help="for machines: one object")
    help_texts.add_version(made)
    help_texts.add_examples(made, "clipserve info", "clipserve info --address localhost:8001 --json")
    return made


def served(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a server says of itself and of a checkpoint, or the reason why it can't."""
    try:
        with client_of(arguments, timeout_s=_TIMEOUT_S) as clip:
            health = clip.health()
            state = {"address": health.address, "live": health.live, "ready": health.ready, "reason": health.reason}
            waiting = {model: reason for model, reason in health.models.items() if reason}
            return {**state, "models": waiting, **(_metadata(clip) if health.live else {})}
    except ClipError as problem:  # an address that none can be, say
        return {"address": arguments.address or "", "live": False, "ready": False, "reason": str(problem), "models": {}}


def _metadata(clip: Clip) -> dict[str, Any]:
    try:
        about = clip.server_metadata()
    except ClipError as problem:  # no such name, another contract
        return {"reason": str(problem)}
    return {
        "server": about.server,
        "version": about.version,
        "checkpoint": about.spec.checkpoint,
        "revision": about.spec.revision,
        "fingerprint": about.fingerprint,
        "embedding_size": about.spec.embedding_size,
        "variants": dict(about.encoders),
        "preprocessing": about.preprocessing,
        "max_batch": about.max_batch,
        "limits": asdict(about.limits),
        "notice": about.spec.notice,
        "approximation": about.spec.approximation,
    }


def _lines(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and texts for people."""
    here = told["installed"]
    version = here["version"] or "not installed, its source is on the path"
    yield "clipserve", f"{version}; Python {here['python']}, {here['system']}"
    whole = [name for name, lacking in here["extras"].items() if not lacking]
    if here["extras"]:
        yield "extras", ", ".join(whole) or "none"
    for name, lacking in here["extras"].items():
        if lacking:
            yield "", f"{name} isn't whole: it needs {', '.join(lacking)}"
    for name, engine in told["engines"].items():
        yield name, engine.get("reason") or f"{engine['version']}, devices: {', '.join(engine['devices'])}"
    yield from _server_lines(told["server"])
    yield from _repository_lines(told["repository"])


def _server_lines(server: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    state = "ready" if server["ready"] else "live, not ready" if server["live"] else _DOWN
    reason = f": {server['reason']}" if server["reason"] else ""
    yield "server", f"{server['address']} is {state}{reason}"
    for model, waiting in server["models"].items():
        yield "", f"{model}: {waiting}"
    if "fingerprint" not in server:
        return
    yield "", f"{server['server']} {server['version']}"
    yield "checkpoint", _checkpoint(server)
    most = {name.removeprefix("image_"): value for name, value in server["limits"].items()}
    limits = " and ".join(f"{value:,} {name}" for name, value in most.items())
    yield "limits", f"{server['max_batch']} items a request; an image of {limits}"
    if server["notice"]:
        yield "notice", server["notice"]
    if server["approximation"]:
        yield "approximate", server["approximation"]


def _repository_lines(repository: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names = repository.get("published", {})
    yield (
        "repository",
        f"{repository['folder']}: {repository.get('reason') or ', '.join(names) or 'nothing is published in it'}",
    )
    for name, about in names.items():
        yield "", f"{name}: {about.get('reason') or _checkpoint(about)}"


def _checkpoint(about: Mapping[str, Any]) -> str:
    """Return name, fingerprint and variants of a checkpoint."""
    revision = f" at {about['revision']}" if about["revision"] else ""
    variants = "; ".join(f"{tower}: {variant}" for tower, variant in about["variants"].items())
    return f"{about['checkpoint']}{revision}, fingerprint {about['fingerprint']}; {variants}"
