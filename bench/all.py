"""Run every bench in turn; an option is passed on to those that have it.

python bench/all.py
python bench/all.py --model openai/clip-vit-base-patch32 --photos FOLDER --peers FOLDER
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    """Run all; return 1 if one failed."""
    given = {f"--{name}": value for name, value in vars(parser().parse_args()).items() if value}
    benches = [path for path in sorted(FOLDER.glob("*.py")) if path.name != Path(__file__).name]
    failed = [bench.name for n, bench in enumerate(benches, 1) if not passed(bench, given, f"{n} of {len(benches)}")]
    if failed:
        print(f"{len(failed)} of {len(benches)} benches failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", metavar="FOLDER|HUB_ID", help="checkpoint")
    made.add_argument("--photos", metavar="FOLDER", help="JPEG files")
    made.add_argument("--peers", metavar="FOLDER", help="virtual environments of the other programs")
    return made


def passed(bench: Path, given: Mapping[str, str], position: str) -> bool:
    """Run one bench with the options that it has; return True if it ended well."""
    described = subprocess.run([sys.executable, bench, "--help"], capture_output=True, text=True, check=False).stdout
    options = [part for name, value in given.items() if f"[{name} " in described for part in (name, value)]
    print(f"── {bench.name}, {position}", flush=True)
    start = time.monotonic()
    status = subprocess.run([sys.executable, bench, *options], check=False).returncode
    print(f"── {bench.name}: {f'failed ({status})' if status else 'done'} after {time.monotonic() - start:.0f} s", flush=True)
    return not status


if __name__ == "__main__":
    sys.exit(main())
