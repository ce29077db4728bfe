"""Export a checkpoint: ``python export/all.py --help``, the same as ``clipserve export``."""

import sys

from clip_client.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
