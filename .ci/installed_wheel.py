"""Wheel in a fresh environment of some Python, away from the clone: installed, and used as a user would.

python .ci/installed_wheel.py WHEEL PYTHON --address localhost:8001              # embeds by a server
python .ci/installed_wheel.py WHEEL PYTHON --repository model_repository         # embeds by Clip.local; any system can
python .ci/installed_wheel.py WHEEL PYTHON --address … --write embeddings.json   # and keeps what it got
python .ci/installed_wheel.py WHEEL PYTHON --address … --expected embeddings.json

With neither it installs the client, imports it, and looks at its errors where there is no server.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "examples" / "emoji" / "pictures"
_LOCAL = "local"
_LEAST_COSINE = 0.999  # other processors round otherwise, and take other kernels
_PROGRAM = r"""
import json, platform, sys, time
from pathlib import Path
import numpy as np
begun = time.perf_counter()
import clip_client
imported_ms = 1000 * (time.perf_counter() - begun)
assert Path(sys.prefix) in Path(clip_client.__file__).parents, f"{clip_client.__file__} isn't the wheel's"
from clip_client import Clip, InvalidInput, Unavailable

ask = json.loads(sys.argv[1])
rows = []
if ask["address"] or ask["repository"]:
    with Clip(ask["address"]) if ask["address"] else Clip.local(ask["repository"]) as clip:
        clip.wait_ready(timeout_s=120)
        rows = [*clip.embed_text(["a red apple", "ein Stuhl", ""]), *clip.embed_image(ask["pictures"])]
        picture = open(ask["pictures"][0], "rb").read()
        assert np.array_equal(clip.embed_image(picture), rows[3]), "bytes and their file differ"
        some = clip.embed_image([ask["pictures"][0], b"no picture"], on_error="none")
        assert np.array_equal(some[0], rows[3]) and list(some.errors) == [1], some.errors
        assert np.isclose(clip.compare(ask["pictures"][0], ["a cat", "a dog"]).probabilities.sum(), 1)
    assert all(np.isclose(np.linalg.norm(row), 1, atol=1e-5) for row in rows)
else:
    with Clip("localhost:9", timeout_s=2) as clip:
        try:
            clip.embed_text("a cat")
        except Unavailable as problem:
            assert "localhost:9" in str(problem), problem
        else:
            raise AssertionError("nobody listens there")
try:
    Clip("localhost:9", preprocess="elsewhere")
except InvalidInput as problem:
    assert "elsewhere" in str(problem), problem
print(json.dumps({
    "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}",
    "imported_ms": imported_ms, "embeddings": [[float(number) for number in row] for row in rows],
}))
"""


def main() -> None:
    """Install, use, compare, report."""
    options = parser().parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = installed(options.wheel.resolve(), options.python, folder / "environment", [_LOCAL] * bool(options.repository))
        version = options.wheel.name.split("-")[1]
        told = output([python.with_name(f"clipserve{python.suffix}"), "--version"], folder).strip()
        if told != f"clipserve {version}":
            sys.exit(f"clipserve --version prints {told!r}: expected the wheel's version, {version}")
        used = json.loads(output([python, "-c", _PROGRAM, json.dumps(asked(options))], folder))
    print(f"{used['system']}: imported in {used['imported_ms']:.0f} ms, {len(used['embeddings'])} embeddings")
    if options.write:
        options.write.write_text(json.dumps(used["embeddings"]), encoding="utf-8")
    if options.expected:
        compare(used["embeddings"], json.loads(options.expected.read_text(encoding="utf-8")))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("wheel", type=Path, metavar="WHEEL")
    made.add_argument("python", metavar="PYTHON", help="interpreter that the environment is made of")
    models = made.add_mutually_exclusive_group()
    models.add_argument("--address", default="", help="server that embeds")
    models.add_argument("--repository", type=Path, help="published models that Clip.local opens")
    made.add_argument("--write", type=Path, metavar="FILE", help="keep the embeddings")
    made.add_argument("--expected", type=Path, metavar="FILE", help="embeddings of another system, to the cosine")
    return made


def installed(wheel: Path, python: str, environment: Path, extras: list[str]) -> Path:
    """Make an environment, install the wheel with its dependencies, wheels alone; return its Python."""
    output([python, "-m", "venv", environment], environment.parent)
    inside = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    named = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:"]
    output([*pip, named], environment.parent)
    output([inside, "-m", "pip", "check"], environment.parent)
    return inside


def asked(options: argparse.Namespace) -> dict[str, object]:
    """Return what the program shall do."""
    pictures = sorted(map(str, PICTURES.glob("*.webp")))[:3]
    repository = str(options.repository.resolve()) if options.repository else ""
    return {"address": options.address, "repository": repository, "pictures": pictures}


def compare(embeddings: list[list[float]], expected: list[list[float]]) -> None:
    """End with a message where a cosine is below the least."""
    cosines = [sum(map(operator.mul, *pair)) for pair in zip(embeddings, expected, strict=True)]
    print(f"least cosine to the expected embeddings: {min(cosines):.6f}")
    if min(cosines) < _LEAST_COSINE:
        sys.exit(f"expected at least {_LEAST_COSINE}")


def output(command: list[str | Path], folder: Path) -> str:
    """Run a command in a folder without the clone on its path; return what it prints, or end with that."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    ended = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, encoding="utf-8")
    if ended.returncode:
        sys.exit(f"{' '.join(map(str, command[:2]))} … ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


if __name__ == "__main__":
    main()
