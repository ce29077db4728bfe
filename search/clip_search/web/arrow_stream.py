"""Arrow IPC streams of strangers: read within bounds, and written.

Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput
from clip_search.query import check_most
from clip_search.ready_rows import MOST_ROWS

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
_MOST_MESSAGES = 1_000  # a stream of empty batches would keep a thread for seconds
_HEADER, _COMPRESSION = 2, 3
"""Numbers of fields in Arrow's Message.fbs: of a message's header, and of a record batch's compression."""


def read(body: bytes, check: Callable[[pa.Schema], object]) -> pa.Table:
    """Return the rows of a stream; ``check`` sees the schema before anything else is read.

    Raises:
        InvalidInput: it is no such stream, or one with compressed buffers, dictionaries or arrays that break the format.
        TooLarge: it has more rows than are taken at once.
    """
    try:
        messages = _messages(body)
        schema = pa.ipc.read_schema(next(messages))
        check(schema)
        return pa.Table.from_batches(_batches(messages, schema), schema)
    except ClipError:
        raise
    except (pa.ArrowException, OSError, ValueError, struct.error, StopIteration) as problem:
        raise InvalidInput(f"the body is no Arrow IPC stream that can be read ({problem}): send {MEDIA_TYPE}") from problem


def written(rows: pa.Table) -> bytes:
    """Return rows as a stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _messages(body: bytes) -> Iterator[pa.ipc.Message]:
    reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(body))
    for _ in range(_MOST_MESSAGES):
        try:
            yield reader.read_next_message()
        except StopIteration:
            return
    raise InvalidInput(f"the stream has {_MOST_MESSAGES:,} messages or more: send larger batches")


def _batches(messages: Iterator[pa.ipc.Message], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = 0
    for message in messages:
        if message.type != "record batch":
            raise InvalidInput(f"the stream has a {message.type} behind its schema: expected record batches alone")
        if _is_compressed(message.metadata):
            raise InvalidInput("the stream's buffers are compressed: send them as they are")
        batch = pa.ipc.read_record_batch(message, schema)
        rows += len(batch)
        check_most("the number of rows", rows, MOST_ROWS)  # before what they hold is looked at
        batch.validate(full=True)
        yield batch


def _is_compressed(message: pa.Buffer) -> bool:
    """Tell if a record batch names a compression, of which a few bytes could become gigabytes."""
    content = message.to_pybytes()
    (root,) = struct.unpack_from("<I", content, 0)
    place = _field(content, root, _HEADER)
    (offset,) = struct.unpack_from("<I", content, place)
    return _field(content, place + offset, _COMPRESSION) > 0


def _field(content: bytes, table: int, number: int) -> int:
    """Return the place of a field in a flatbuffer's table; 0 if it isn't there."""
    (back,) = struct.unpack_from("<i", content, table)
    size, _ = struct.unpack_from("<HH", content, table - back)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", content, table - back + 4 + 2 * number)
    return table + offset if offset else 0
