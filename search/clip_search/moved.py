"""Former module names of the package: an import of one works, and warns."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

_NOW = {
    "acknowledged": "storage.acknowledged_version",
    "adding": "cli.folder.adding",
    "books": "cli.books",
    "cards": "storage.row_cache",
    "checks": "index.block_checks",
    "columns": "storage.columns",
    "commands": "cli.commands",
    "copying": "cli.filtering",
    "derived": "storage.derived_files",
    "descriptions": "cli.folder.descriptions",
    "engine": "index.engine",
    "faiss_index": "index.faiss_index",
    "fields": "cli.folder.fields",
    "filter_grammar": "storage.filters.grammar",
    "filter_nulls": "storage.filters.nulls",
    "filter_values": "storage.filters.values",
    "filters": "storage.filters.sql",
    "folder_parts": "cli.clip_retrieval.shards",
    "folders": "cli.clip_retrieval.exporting",
    "foreign_columns": "cli.clip_retrieval.columns",
    "foreign_values": "cli.clip_retrieval.values",
    "importing": "cli.clip_retrieval.importing",
    "kinds": "storage.kinds",
    "known": "storage.id_filter",
    "lance_engine": "index.lance_engine",
    "lease": "storage.lease",
    "npy_file": "cli.clip_retrieval.npy_file",
    "numbers": "storage.row_numbers",
    "objects": "storage.object_store",
    "ownership": "storage.lock",
    "part": "index.part",
    "private": "storage.permissions",
    "readers": "storage.version_readers",
    "row_values": "cli.folder.row_values",
    "rows": "storage.rows",
    "scalar_indexes": "storage.scalar_indexes",
    "schema": "storage.schema",
    "serve": "cli.serve",
    "store": "storage.database",
    "sync": "cli.folder.sync",
    "table": "storage.table",
    "texts": "index.tuning_queries",
    "token_file": "cli.token_file",
    "trimming": "memory_trim",
    "tuning": "index.tuning",
    "widening": "storage.widening",
    "writer": "storage.writer",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the module under its present name for one that is asked for under its former name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a former name, None for any other."""
        package, _, module = name.rpartition(".")
        return importlib.machinery.ModuleSpec(name, self) if package == __package__ and module in _NOW else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module under its present name."""
        now = f"{__package__}.{_NOW[spec.name.rpartition('.')[2]]}"
        warnings.warn(f"{spec.name} is {now} now: import that", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(now)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which is executed already, its own spec back."""
        if module.__spec__:
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let the former names be imported."""
    sys.meta_path.append(_Finder())
