"""Lance: a data set with a fragment for each part, all of which come into it in one step.

Parts are files below ``data``; a data set begins with the manifest of its first version, which names them. Format:
https://lance.org/format/table/.
"""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from clip_client.errors import InvalidInput, Unavailable
from clip_embed.outputs.base import Rows
from clip_embed.outputs.lance_schema import fitted
from clip_embed.places import Place

_DATA, _VERSIONS, _TRANSACTIONS = "data", "_versions", "_transactions"
_HINT = "latest_version_hint.json"  # which readers can do without


class Lance:
    """A file for each part that has rows; none of them belongs to the data set before all do.

    Where two processes may do one part, each has a file of its own: the record of the part names the one that counts.
    """

    def check(self, schema: pa.Schema) -> None:
        """Raise InvalidInput for columns that Lance doesn't hold."""
        problems = []
        for column in fitted(schema):
            try:
                _library().schema.LanceSchema.from_pyarrow(pa.schema([column]))
            except Exception:  # of Rust, of several classes
                problems.append(f"{column.name} ({column.type})")
        if problems:
            raise InvalidInput(f"Lance can't hold the columns {', '.join(problems)}: leave them away, or pass another --format")

    def write(self, place: Place, part: str, rows: Rows, folder: Path) -> dict[str, Any]:
        """Write the file; the record has what the data set must know of it, and in the first part the schema too."""
        schema = fitted(rows.schema)
        record = {"schema": base64.b64encode(schema.serialize().to_pybytes()).decode()} if int(part) == 0 else {}
        if not rows.count:
            return record
        made = folder / "fragment"
        plain = pa.schema([field.remove_metadata() for field in schema])  # whose order in a file is drawn each time
        batches = (pa.RecordBatch.from_arrays(_columns(batch, plain), schema=plain) for batch in rows.batches())
        reader = pa.RecordBatchReader.from_batches(plain, batches)
        (fragment,) = _library().fragment.write_fragments(reader, str(made), mode="create", max_rows_per_file=rows.count)
        described = fragment.to_json()
        (file,) = described["files"]
        name = f"part-{part}.lance" if place.local else f"part-{part}-{secrets.token_hex(8)}.lance"
        place.take(made / "data" / file["path"], f"{_DATA}/{name}")
        file["path"] = name
        return {**record, "fragment": described}

    def finish(self, place: Place, parts: list[dict[str, Any]]) -> None:
        """Make the data set of all parts; where there is one already, leave it as it is."""
        if any(name != _HINT for name in place.names(_VERSIONS)):
            return
        lance = _library()
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(parts[0]["schema"])))
        fragments = [
            lance.fragment.FragmentMetadata.from_json(json.dumps(part["fragment"])) for part in parts if "fragment" in part
        ]
        with tempfile.TemporaryDirectory(prefix="lance-") as folder:
            lance.LanceDataset.commit(folder, lance.LanceOperation.Overwrite(schema, fragments), read_version=0)
            self._begin(place, Path(folder))
        known = {part["fragment"]["files"][0]["path"] for part in parts if "fragment" in part}
        for name in set(place.names(_DATA)) - known:
            place.remove(f"{_DATA}/{name}")

    def _begin(self, place: Place, made: Path) -> None:
        """Put the first version into its place, which is the step that Lance itself takes there."""
        (transaction,) = (made / _TRANSACTIONS).iterdir()
        (version,) = (file for file in (made / _VERSIONS).iterdir() if file.name != _HINT)
        name = f"{_TRANSACTIONS}/{transaction.name}"
        place.create(name, transaction.read_bytes())
        if not place.create(f"{_VERSIONS}/{version.name}", version.read_bytes()):
            place.remove(name)


def _columns(batch: pa.RecordBatch, schema: pa.Schema) -> list[pa.Array]:
    return [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]


def _library() -> Any:
    """Return the library."""
    try:
        import lance
        import lance.fragment
        import lance.schema
    except ImportError as problem:
        raise Unavailable(f"a Lance data set needs another package ({problem}): pip install 'clipserve[embed]'") from problem
    return lance
