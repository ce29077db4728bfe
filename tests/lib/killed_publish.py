"""Publishing that is killed before each change of the file system: killed_publish.py REPOSITORY SOURCE, prints JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from clip_client import model_versions
from clip_client.repository_check import check
from clip_serve.versions import cli


def published(repository: Path, source: Path) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return cli.main([str(source), "--repository", str(repository), "--no-server"])


def killed_at(step: int, repository: Path, source: Path) -> bool:
    """True if it was killed; False if it ended before."""
    process = os.fork()
    if not process:
        left = iter(range(step))

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link") or (
                event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            )
            if changes and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        os._exit(published(repository, source))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def main(repository: Path, source: Path) -> None:
    kept = Path(shutil.copytree(repository, repository.parent / "kept"))
    serving, names, step = [], [], 0
    check(kept)
    while killed_at(step, repository, source):
        names.append(check(repository))
        serving.append(model_versions.serving(repository, "clip"))
        if step % 7 == 0:  # the next one mends whatever was left
            status = published(repository, source)
            assert status == 0
            assert model_versions.serving(repository, "clip") in (2, 3)
            assert not list(repository.parent.glob(".model_repository-staging-*"))
        shutil.rmtree(repository)
        shutil.copytree(kept, repository)
        step += 3
    unique = [list(one) for one in dict.fromkeys(map(tuple, names))]
    print(json.dumps({"steps": step, "names": unique, "serving": serving, "afterwards": "serves"}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
