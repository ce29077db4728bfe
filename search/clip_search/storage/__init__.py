"""Collections on disk: LanceDB tables, and files derived from them."""
