"""Collections on disk: LanceDB tables, and files derived from them."""

from clip_search.storage import remote_client

remote_client.defer()  # before the first import of LanceDB
