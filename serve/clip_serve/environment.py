"""The server's own Python environment, made on first use and kept in the user's cache.

Triton's Python backend in the wheel needs numpy 1.26; the user's own environment stays free of that.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from clip_client.errors import InvalidInput, Unavailable
from clip_inside_triton import REQUIREMENTS, START

PYTHONS = ((3, 10), (3, 12))  # first and last Python that the wheel's stubs and numpy 1.26 both exist for
MACHINES = ("x86_64", "aarch64")  # that the wheel is made for, with glibc 2.35 or later

_OTHER_FILE = "DO NOT MATCH THE HASHES"  # of pip

Notice = Callable[[str], None]  # gets a line for each step of the work


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel's tritonserver and the packages that its models import."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        """Folder of its packages."""
        return self.folder / "lib" / f"python{_python()}" / "site-packages"

    @property
    def tritonserver(self) -> Path:
        """The wheel's folder of binaries, backends and stubs."""
        return self.site_packages / "pytriton" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The Python backend's worker for this Python."""
        return self.tritonserver / "python_backend_stubs" / _python() / "triton_python_backend_stub"

    def variables(self) -> dict[str, str]:
        """Return tritonserver's environment; raise InvalidInput if this Python came without the library that its stubs load."""
        libraries = [str(self.site_packages / "nvidia_pytriton.libs"), str(libpython_folder())]
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
            "VIRTUAL_ENV": str(self.folder),
        }


def ensure(notice: Notice) -> Environment:
    """Return the environment; make it if this machine doesn't have it yet.

    Raises:
        InvalidInput: for a Python or a platform that the wheel isn't made for.
        Unavailable: if the packages can't be downloaded, or there is no space for them.
    """
    _check_platform()
    try:
        return _ensured(notice)
    except (OSError, RuntimeError) as problem:  # RuntimeError: no home
        raise Unavailable(f"no place for Triton's own environment ({problem}): set XDG_CACHE_HOME to another") from problem


def _ensured(notice: Notice) -> Environment:
    contents = [REQUIREMENTS.read_bytes(), sys.version.encode(), *(file.read_bytes() for file in START)]
    key = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    folder = user_cache_path("clipserve") / f"triton-{key}"
    complete = folder / "complete"
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not complete.exists():
            notice(f"installing Triton's own environment, once, about 600 MB, into {folder}")
            _install(Environment(folder))
            complete.touch()
    return Environment(folder)


def libpython_folder() -> Path:
    """Return the folder of ``libpython3.X.so.1.0``; raise InvalidInput if neither this Python nor the system has it."""
    name = f"libpython{_python()}.so.1.0"
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    bases = [sysconfig.get_config_var("LIBDIR") or "", Path(sys.base_prefix) / "lib", "/usr/lib", "/usr/local/lib"]
    candidates = [Path(base) / sub for base in bases for sub in ("", multiarch)]
    for folder in candidates:
        if (folder / name).exists():
            return folder
    raise InvalidInput(
        f"Triton's Python backend needs {name}, and {sys.executable} came without it: install it "
        f"(Debian, Ubuntu: apt install libpython{_python()}), or use a Python built with --enable-shared"
    )


def _install(environment: Environment) -> None:
    folder = environment.folder
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], "a virtual environment can't be made: is Python's venv installed?")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run(
        [*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(REQUIREMENTS)],
        "Triton's packages can't be installed: connect this machine once and run 'clipserve serve --install'",
    )
    for file in START:  # into site-packages, since Triton's workers don't look at PYTHON… variables
        shutil.copy2(file, environment.site_packages)


def _run(command: list[str], otherwise: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines()
        if any(_OTHER_FILE in line for line in said):
            raise Unavailable(
                f"a package of Triton's environment isn't the file whose hash is locked ({_hashes(said)}): it may have been "
                "tampered with; point pip at another index and run 'clipserve serve --install'"
            )
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise Unavailable(f"{otherwise} ({errors[-1] if errors else f'exit status {result.returncode}'})")


def _hashes(said: list[str]) -> str:
    """Return pip's lines on the package, the hashes that were expected and the one that came."""
    words = ("from ", "Expected ", "or ", "Got ")
    return ", ".join(line.strip() for line in said if line.startswith(" ") and any(word in line for word in words))


def _check_platform() -> None:
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        first, last = ("{}.{}".format(*version) for version in PYTHONS)
        raise InvalidInput(f"Triton's wheel runs on Python {first} to {last}, this is {_python()}: use one of those")
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in MACHINES:
        made = " and ".join(MACHINES)
        raise InvalidInput(f"Triton's wheel is for Linux on {made}, this is {system} on {machine}: docker compose up triton")


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
