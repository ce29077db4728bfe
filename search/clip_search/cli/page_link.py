"""Link to a search on the sidecar's page."""

import argparse
import base64
import webbrowser
from urllib.parse import quote, urlencode

from clip_client.progress_bars import say
from clip_client.search import Search, Term
from clip_search.thumbnails import thumbnail


def open_page(search: Search, arguments: argparse.Namespace, term: Term) -> None:
    """Open the page with a search in the browser; print its address where there is none."""
    shown = {"collection": arguments.collection, **_shown(term), "filter": arguments.filter}
    fragment = urlencode({name: value for name, value in shown.items() if value}, quote_via=quote, safe="")
    link = f"{search.url}/#{fragment}"
    if not webbrowser.open(link):
        say(f"no browser can be opened here; the search is at {link}")


def _shown(term: Term) -> dict[str, str]:
    """Return the part of the address that stands for a term; a picture goes along, small."""
    if term.text is not None:
        return {"text": term.text}
    if term.image_url is not None:
        return {"url": term.image_url}
    small = thumbnail(base64.b64decode(term.to_json()["image"]))
    return {"image": f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"}
