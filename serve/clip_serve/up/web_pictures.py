"""Pictures of a list that lie on the web: fetched once, kept beside the list's links."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from clip_client.downloads import Downloader, open_url
from clip_client.picture_files import is_picture_name
from clip_client.preprocess import Limits
from clip_serve.up.stop import Stop

_WORKERS = 8
_TIMEOUT_S = 20.0
_LONGEST = 80  # characters of a name


def files_of(url: str) -> tuple[str, str]:
    """Return the names of a URL's picture and fields below the list's folder: host, digest of all of it, its last part."""
    host, _, path = shown(url).partition("://")[2].partition("/")
    last = re.sub(r"[^\w.-]+", "_", unquote(re.split("[?#]", path)[0]).rstrip("/").rpartition("/")[2])[-_LONGEST:]
    name = last if is_picture_name(last) else f"{last}.jpg"  # its content tells the format
    folder = re.sub(r"[^\w.-]+", "_", re.split("[?#]", host)[0])[:_LONGEST].lstrip(".")
    path = f"{folder or 'web'}/{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}-{name}"
    return path, f"{os.path.splitext(path)[0]}.json"


def fetch(urls: Sequence[str], folder: Path, stop: Stop) -> dict[str, str]:
    """Fetch what isn't there yet, each with its URL as a field beside it; return reasons by URL."""
    missing, problems = queue.SimpleQueue[str](), dict[str, str]()
    wanted = [url for url in urls if not (folder / files_of(url)[0]).is_file()]
    for url in wanted:
        missing.put(url)
    fetched = list[str]()

    def work() -> None:
        while True:
            try:
                url = missing.get_nowait()
            except queue.Empty:
                return
            if reason := _fetched(url, *(folder / name for name in files_of(url))):
                problems[url] = reason
            fetched.append(url)

    for _ in range(min(_WORKERS, len(wanted))):
        threading.Thread(target=work, daemon=True).start()
    while len(fetched) < len(wanted):
        stop.wait(0.05)
    return problems


def _fetched(url: str, file: Path, fields: Path) -> str:
    """Fetch a picture into a file, in one step; return the reason if that fails."""
    try:
        content = Downloader(open_url, Limits().image_bytes, _TIMEOUT_S).read(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        fields.write_text(json.dumps({"url": shown(url)}), encoding="ascii")
        aside = Path(f"{file}.{os.getpid()}")
        aside.write_bytes(content)
        os.replace(aside, file)
    except Exception as problem:  # whatever a stranger's server makes a library raise
        return str(problem).replace(url, shown(url)) or type(problem).__name__
    return ""


def shown(url: str) -> str:
    """Return a URL without user and password."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url)
