"""Captions and other fields of pictures, from the files that people keep beside them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_client.csv_rows import csv_rows
from clip_client.errors import InvalidInput
from clip_client.file_names import Names
from clip_client.picture_files import is_picture_name
from clip_client.regular_files import open_regular, read_regular
from clip_client.text_files import decoded, parsed_json

Fields = dict[str, Any]

CAPTION_TABLES = ("captions.parquet", "captions.json", "captions.jsonl", "captions.csv")
TABLES = (*CAPTION_TABLES, "metadata.parquet", "metadata.jsonl", "metadata.csv")
"""Names of tables that are looked for in a folder; those of captions have some, the others may."""

CAPTION = "caption"
_CAPTIONS = (CAPTION, "captions")
_NAMES = ("file_name", "file", "filename", "image_name", "image", "image_path", "path")
_MOST_TABLE_BYTES = 2**31
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")


@dataclass
class Table:
    """Rows of a table by the file that each names, in their order, and the problems of the others."""

    rows: dict[str, list[Fields]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    shorter: dict[str, str] = field(default_factory=dict)  # a second, shorter name of a file, by its name in `rows`

    def add(self, name: Any, fields: Fields, place: str) -> None:
        """Take a row, or note that it names no file."""
        if isinstance(name, str) and name.strip():
            self.rows.setdefault(name, []).append(fields)
        else:
            self.problems.append(f"{place} names no file")

    def file(self, written: str, names: Names) -> str | None:
        """Return the file that a name in the table means."""
        return names.match(written) or (names.match(self.shorter[written]) if written in self.shorter else None)


def read_table(path: Path) -> Table:
    """Read a table of captions or other fields: parquet, CSV, JSON lines, or JSON as COCO, Karpathy or a list has it.

    Raises:
        InvalidInput: it can't be read, or is of another form.
    """
    readers = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv, ".txt": _csv, ".jsonl": _lines, ".ndjson": _lines}
    reader = readers.get(path.suffix.lower(), _document)
    try:
        return reader(path)
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{path} can't be used: {problem}") from problem


def merged(rows: Iterable[Mapping[str, Any]]) -> Fields:
    """Return the fields of one picture from all rows that name it.

    Captions are joined, one a line, each once. Several values of another field become a list.
    """
    values: dict[str, dict[str, Any]] = {}  # each once, in their order
    given = list(rows)
    for row in given:
        for name in (name for name in row if not is_caption(name) and row[name] is not None):
            values.setdefault(name, {})[repr(row[name])] = row[name]
    captions = caption_list(given)
    joined = {CAPTION: "\n".join(captions)} if captions else {}
    return joined | {name: _single_or_all([*distinct.values()]) for name, distinct in values.items()}


def is_caption(name: str) -> bool:
    """Return true for a field that holds captions."""
    return name.casefold() in _CAPTIONS


def caption_list(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the captions of one picture, each once, without those that are null or empty."""
    texts = [str(text).strip() for row in rows for name in row if is_caption(name) for text in _several(row[name])]
    return tuple(filter(None, dict.fromkeys(texts)))


def _several(value: Any) -> list[Any]:
    return [item for item in (value if isinstance(value, list) else [value]) if item is not None]


def _single_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            name = _name_key(file.schema_arrow.names)
            rows = (row for batch in file.iter_batches() for row in _plain_rows(batch))
            return _table(rows, name)
    except pa.ArrowException as problem:
        raise InvalidInput(f"isn't parquet ({problem})") from problem


def _plain_rows(batch: Any) -> Iterator[Fields]:
    """Return the rows of a batch; a value that Python can't hold is null, so that the others are kept."""
    columns = []
    for column in batch.columns:
        try:
            columns.append(column.to_pylist())
        except (ValueError, OverflowError):  # a time before year 1, a text that isn't UTF-8
            columns.append([_plain(value) for value in column])
    return (_row(batch.schema.names, values) for values in zip(*columns, strict=True))


def _row(names: Sequence[str], values: Sequence[Any]) -> Fields:
    """Return a row by name; where several columns have one name, their values are a list."""
    row: Fields = {}
    for name, value in zip(names, values, strict=False):
        row[name] = _both(row[name], value) if name in row else value
    return row


def _both(first: Any, second: Any) -> Any:
    values = [*_several(first), *_several(second)]
    return values if first is not None and second is not None else second if first is None else first


def _plain(value: Any) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return None


def _csv(path: Path) -> Table:
    text, _ = decoded(read_regular(path, _MOST_TABLE_BYTES)[0])
    read = csv_rows(text)
    header, *rows = read.rows or [[]]
    names = [name.strip() for name in header]
    key, table = _name_key(names), Table(problems=read.problems)
    columns = [[row[n] for row in rows if n < len(row) and row[n]] for n in range(len(names))]
    kinds = [str if name == key else _cell_kind(cells) for name, cells in zip(names, columns, strict=True)]
    for number, row in enumerate(rows, 1):
        if len(row) > len(names):
            table.problems.append(f"row {number} has {len(row)} cells, the header {len(names)}: the last ones are left away")
        cells = [kind(cell) if cell else None for kind, cell in zip(kinds, row, strict=False)]
        _take(table, _row(names, cells), key, f"row {number}")
    return table


def _cell_kind(cells: list[str]) -> Callable[[str], Any]:
    """Return the type of a column of CSV, where everything is text; numbers with a zero in front are names."""
    if all(_WHOLE.fullmatch(cell) for cell in cells):
        return int
    return float if all(_DECIMAL.fullmatch(cell) for cell in cells) else str


def _lines(path: Path) -> Table:
    text, _ = decoded(read_regular(path, _MOST_TABLE_BYTES)[0])
    table = Table()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                _take(table, parsed_json(line), None, f"line {number}")
        except InvalidInput as problem:
            table.problems.append(f"line {number} {problem}")
    return table


def _document(path: Path) -> Table:
    document = parsed_json(decoded(read_regular(path, _MOST_TABLE_BYTES)[0])[0])
    if isinstance(document, dict) and isinstance(document.get("images"), list):
        return _coco(document)
    if isinstance(document, dict) and any(map(is_picture_name, document)):
        return _by_name(document)
    if not isinstance(document, list):
        raise InvalidInput(
            f'expected [{{"file": …, "captions": […]}}, …] or COCO\'s images and annotations, got a {type(document).__name__}'
        )
    return _table(document, None)


def _by_name(document: Mapping[str, Any]) -> Table:
    """Read an object of captions or fields by file name."""
    table = Table()
    for name, value in document.items():
        if isinstance(value, str | list | dict | None):
            table.add(name, value if isinstance(value, dict) else {CAPTION: value}, f"{name!r}")
        else:
            table.problems.append(f"{name!r} has a {type(value).__name__}: expected a caption, a list of them, or an object")
    return table


def _coco(document: Mapping[str, Any]) -> Table:
    """Read COCO's images and annotations, or Karpathy's images with sentences."""
    table, names = Table(), {}
    for number, image in enumerate(document["images"], 1):
        name = _named(image) if isinstance(image, dict) else None
        if name is None:
            table.problems.append(f"image {number} names no file")
            continue
        if isinstance(image.get("filepath"), str):  # Karpathy's folder of the file; it may be missing
            name = _longer(table, image["filepath"], name)
        names[str(image.get("id"))] = name
        captions = [sentence.get("raw") for sentence in image.get("sentences") or [] if isinstance(sentence, dict)]
        table.add(name, {CAPTION: captions}, f"image {number}")
    for number, annotation in enumerate(document.get("annotations") or [], 1):
        name = names.get(str(annotation.get("image_id"))) if isinstance(annotation, dict) else None
        if name is None:
            table.problems.append(f"annotation {number} is of no image")
        else:
            table.add(name, {CAPTION: annotation.get(CAPTION)}, f"annotation {number}")
    return table


def _longer(table: Table, folder: str, name: str) -> str:
    longer = f"{folder}/{name}"
    table.shorter[longer] = name
    return longer


def _table(rows: Iterable[Any], key: str | None) -> Table:
    table = Table()
    for number, row in enumerate(rows, 1):
        _take(table, row, key, f"row {number}")
    return table


def _take(table: Table, row: Any, key: str | None, place: str) -> None:
    if not isinstance(row, dict):
        table.problems.append(f"{place} is a {type(row).__name__}: expected an object")
        return
    key = key or _key(row)
    table.add(row.get(key) if key else None, {name: value for name, value in row.items() if name != key}, place)


def _named(row: Mapping[str, Any]) -> str | None:
    return next((row[name] for name in _NAMES if isinstance(row.get(name), str)), None)


def _key(names: Iterable[str]) -> str | None:
    """Return the column that names the file, in any case."""
    folded = {name.strip().casefold().replace(" ", "_"): name for name in names}
    return next((folded[name] for name in _NAMES if name in folded), None)


def _name_key(columns: Iterable[str]) -> str:
    present = list(columns)
    key = _key(present)
    if key is None:
        raise InvalidInput(f"has the columns {', '.join(present)}: expected file_name among them, and {CAPTION} or others")
    return key
