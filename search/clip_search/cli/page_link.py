"""Link to a search on the sidecar's page."""

import argparse
import webbrowser
from urllib.parse import quote, urlencode

from clip_client.progress_bars import say
from clip_client.search import Search, Term


def open_page(search: Search, arguments: argparse.Namespace, term: Term) -> None:
    """Open the page with a search in the browser; print its address where there is none."""
    shown = {"collection": arguments.collection, **_shown(search, term), "filter": arguments.filter}
    fragment = urlencode({name: value for name, value in shown.items() if value}, quote_via=quote, safe="")
    link = f"{search.url}/#{fragment}"
    if not webbrowser.open(link):
        say(f"no browser can be opened here; the search is at {link}")


def _shown(search: Search, term: Term) -> dict[str, str]:
    """Return the part of the address that stands for a term; the sidecar keeps a picture."""
    if term.image is not None:
        return {"q": search.keep_picture(term.image)}
    return {"url": term.image_url} if term.image_url is not None else {"text": term.text or ""}
