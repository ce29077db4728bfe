"""Former module names of the package, with the present ones."""

_ROOMS = {
    "cli": "books commands copying=filtering serve token_file",
    "cli.clip_retrieval": "folders=exporting importing npy_file=exporting cli.clip_retrieval.npy_file=exporting",
    "cli.folder": "adding descriptions fields row_values=descriptions cli.folder.row_values=descriptions sync",
    "imports": "folder_parts=shards foreign_columns=columns foreign_values=values cli.clip_retrieval.chunks=chunks "
    "cli.clip_retrieval.columns=columns cli.clip_retrieval.runs=runs cli.clip_retrieval.shards=shards "
    "cli.clip_retrieval.sources=sources cli.clip_retrieval.tables=tables cli.clip_retrieval.values=values",
    "index": "checks=block_checks engine faiss_index lance_engine part texts=tuning_queries tuning",
    "storage": "acknowledged=acknowledged_version cards=row_cache columns derived=derived_files kinds known=id_filter lease "
    "numbers=row_numbers objects=object_store ownership=lock private=permissions readers=version_readers rows scalar_indexes "
    "schema store=database table widening writer",
    "storage.filters": "filter_grammar=grammar filter_nulls=nulls filter_values=values filters=sql",
    "web": "web.bodies=request_models web.intake=row_parser web.pictures=row_thumbnails web.pool=thread_pool "
    "web.reading=body_reader web.searching=query_runner web.state=app_state",
}
"""Room -> modules that moved into it: ``name``, or ``former=name`` where the name is another one now."""

_MOVES = [(room, *name.partition("=")) for room, names in _ROOMS.items() for name in names.split()]
NOW = {former: f"{room}.{name or former}" for room, former, _, name in _MOVES} | {"trimming": "memory_trim"}
