"""``search add``: sync of a collection with a folder of pictures."""

import argparse
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from clip_client import camera_files, command_runner, notices
from clip_client.counting import counted
from clip_client.errors import ClipError, InvalidInput
from clip_client.file_names import as_id, as_source
from clip_client.picture_files import USUAL_ENDINGS, PictureFile, Scan, scan
from clip_client.preprocess import Limits
from clip_client.progress_bars import ProgressBar, say
from clip_client.regular_files import read_regular
from clip_client.search import OnConflict, Row, Search
from clip_client.thumbnails import thumbnail
from clip_search.cli.books import Books
from clip_search.cli.commands import batches, client, ensure
from clip_search.cli.folder.descriptions import Description, Descriptions, metadata_of, with_description
from clip_search.cli.folder.fields import Fields
from clip_search.cli.folder.sync import BELOW, Disk, Known, Plan, State, Step, Wanted, described, digest_of, is_above, plan

_ROWS, _BYTES = 32, 24 * 2**20  # of one request: base64 makes a third more of the bytes, and a body may have 64 MB
_REQUESTS = 2  # one is embedded while the next is read
_PAGE = 5_000  # rows in an answer, some megabytes of JSON
_DELETED = 1_000  # ids in a request
_NO_PICTURES = ("file passed over that isn't a picture", "files passed over that aren't pictures")
_RENAMED = ("has its folder's name in its id", "have their folder's name in their id")
_GONE = ("row whose file is gone", "rows whose files are gone")
_REMOVED = ("row removed whose file is gone", "rows removed whose files are gone")


def add(arguments: argparse.Namespace) -> int:
    """Send new and changed pictures; name bad ones and go on."""
    listing = scan(arguments.folder)
    if not listing.pictures and not listing.left_out and not arguments.prune:
        raise InvalidInput(f"no pictures in {arguments.folder}: expected files that end in {USUAL_ENDINGS}")
    with Books(arguments.errors, say) as books, client(arguments) as search:
        ensure(search, arguments.collection)
        _tell_notice(search, arguments.collection)
        for name, reason in sorted(listing.left_out.items()):
            books.leave_out(as_id(name), reason)
        sync = _Sync(arguments, search, listing, books)
        try:
            sync.run()
        except (ClipError, KeyboardInterrupt):
            print(f"stopped; what is in stays, run it again for the rest\n{books.closing()}")
            raise
        rows = counted(search.stats(arguments.collection)["rows"], "row")
        print(f"{rows} in {arguments.collection}; {counted(books.left_out, 'file')} left out")
        print(books.closing())
        return books.status()


def _tell_notice(search: Search, collection: str) -> None:
    """Print what the model is for, if its checkpoint says so; whoever runs this as a part has told it."""
    if command_runner.is_part():
        return
    if notice := notices.told(notices.cleaned(search.stats(collection).get("notice", ""))):
        say(f"notice: {notice}")


@dataclass
class _Outcome:
    """Outcome of a request with several files."""

    reasons: dict[int, str] = field(default_factory=dict)  # by number, of those that aren't in
    there: int = 0  # how many somebody else had added in the meantime


class _Sync:
    """One run over a folder."""

    def __init__(self, arguments: argparse.Namespace, search: Search, listing: Scan, books: Books) -> None:
        self._search, self._collection, self._books = search, arguments.collection, books
        self._again, self._prune = arguments.replace, arguments.prune
        self._found, self._root = listing, os.path.realpath(arguments.folder)
        self._fields = Fields(search.stats(self._collection)["columns"])
        self._read = Descriptions(arguments.folder, listing, arguments.metadata, self._fields, books)
        self._replaced, self._pruned = Counter[str](), 0  # counts beside the books: by kind of step, and rows without files
        self._files: Sequence[PictureFile] = listing.pictures
        self._descriptions: list[Description] = []
        self._is_resumed = False

    def run(self) -> None:
        """Compare, send, and print the counts."""
        read = [self._read.of(file) for file in self._files]
        self._descriptions = [self._read.fitted(*pair) for pair in zip(self._files, read, strict=True)]
        disk = Disk(self._root, self._digest, _is_gone)
        planned = plan([self._wanted(n) for n in range(len(self._files))], self._rows(), disk)
        steps = [step for step in planned.steps if step.kind != "unchanged" or self._again]
        self._books.unchanged += len(planned.steps) - len(steps)
        self._send_all(steps)
        if self._prune:
            self._remove([row.id for row in planned.gone])
        self._tell(planned)

    def _wanted(self, number: int) -> Wanted:
        file, said = self._files[number], self._descriptions[number]
        given = None if said.given is None else described(said.given)
        return Wanted(file.name, as_source(file.path), file.size, file.mtime_ns, described(said.own), given)

    def _rows(self) -> Iterator[Known]:
        """Yield all rows, with the columns that are compared."""
        for row in self._search.rows(self._collection, page=_PAGE):
            state = State.from_text(row.get("source_state"))
            self._is_resumed |= state is not None and (
                state.folder == as_source(self._root) or is_above(state.folder, self._root)
            )
            yield Known(row["id"], row["source"], state)

    def _digest(self, number: int) -> str:
        try:
            return digest_of(self._content(number)[0])
        except InvalidInput:  # sending it will say so
            return ""

    def _content(self, number: int) -> tuple[bytes, os.stat_result]:
        path = self._files[number].path
        return read_regular(path, camera_files.most_bytes(path, Limits().image_bytes))

    def _send_all(self, steps: Sequence[Step]) -> None:
        """Return requests: new rows first; moved and changed ones replace rows, which is another request."""
        new = [step for step in steps if step.kind == "new"]
        old = [step for step in steps if step.kind != "new"]
        with ProgressBar(desc="adding", total=len(steps), unit=" pictures") as bar, ThreadPoolExecutor(_REQUESTS) as pool:
            try:
                for part, outcome in _windowed(pool, self._send, [*self._parts(new), *self._parts(old)]):
                    self._enter(part, outcome)
                    bar.update(len(part))
            finally:
                pool.shutdown(cancel_futures=True)

    def _parts(self, steps: Sequence[Step]) -> Iterator[list[Step]]:
        part, size = list[Step](), 0
        for step in steps:
            own = self._files[step.number].size
            if part and (len(part) == _ROWS or size + own > _BYTES):
                yield part
                part, size = [], 0
            part.append(step)
            size += own
        if part:
            yield part

    def _send(self, steps: Sequence[Step]) -> _Outcome:
        """Send rows in one request."""
        rows, outcome = dict[int, Row](), _Outcome()
        for step in steps:
            try:
                rows[step.number] = self._row(step)
            except InvalidInput as problem:
                outcome.reasons[step.number] = str(problem)
        self._post(rows, "skip" if steps[0].kind == "new" else "replace", outcome)
        origins = [step.row.id for step in steps if _leaves(step) and step.row and step.number not in outcome.reasons]
        self._remove(origins, counted=False)
        return outcome

    def _post(self, rows: dict[int, Row], on_conflict: OnConflict, outcome: _Outcome) -> None:
        """Send rows; if all are refused because of some, try halves."""
        numbers = list(rows)
        try:
            added = self._search.add(self._collection, rows.values(), on_conflict=on_conflict) if rows else None
        except InvalidInput as problem:
            if problem.errors or len(rows) == 1:
                outcome.reasons |= {numbers[n]: reason for n, reason in (problem.errors or {0: str(problem)}).items()}
                return
            half = len(rows) // 2
            for part in (numbers[:half], numbers[half:]):
                self._post({n: rows[n] for n in part}, on_conflict, outcome)
            return
        if added:
            outcome.reasons |= {numbers[n]: reason for n, reason in added.errors.items()}
        if added and added.skipped:
            self._meet(rows, added.skipped, outcome)

    def _meet(self, rows: dict[int, Row], skipped: int, outcome: _Outcome) -> None:
        """Enter rows that another client added since the rows were read: the same files, or others with their ids."""
        rows_now = self._search.get(self._collection, [str(row.id) for row in rows.values()])
        sources = {row["id"]: row["source"] for row in rows_now}
        others = {n: sources[row.id] for n, row in rows.items() if sources.get(row.id, row.source) != row.source}
        outcome.reasons |= {n: f"its id was given to {other} a moment ago: run it again" for n, other in others.items()}
        outcome.there += skipped - len(others)

    def _row(self, step: Step) -> Row:
        """Return the row of a file: with its picture if that has to be embedded, else with another row's vector."""
        file, said = self._files[step.number], self._descriptions[step.number]
        image, digest, size, mtime_ns = None, step.digest, file.size, file.mtime_ns
        if step.kind in ("new", "changed") or self._again:
            image, status = self._content(step.number)
            digest, size, mtime_ns = digest_of(image), len(image), status.st_mtime_ns
            if not image:
                raise InvalidInput("the file is empty (0 bytes)")
            image = camera_files.as_jpeg(image, Limits().image_pixels)
            if self._is_resumed:  # what the model's server would refuse each time needn't be sent each time
                thumbnail(image)
        before = step.row.state if step.row else None
        metadata, state = self._described(said, State(digest, size, mtime_ns, folder=as_source(self._root)), before)
        return Row(
            id=step.id,
            image=image,
            same_as=step.row.id if step.row else None,
            metadata=self._fields.typed(metadata),
            source=as_source(file.path),
            source_state=state.to_text(),
        )

    def _described(self, said: Description, state: State, before: State | None) -> tuple[dict[str, Any], State]:
        """Return metadata and state of a row; a table of a folder above, which isn't read here, may have given more."""
        if before is None or not is_above(before.folder, self._root):
            return metadata_of(said, before), with_description(state, said, before)
        said = replace(said, whole=False)
        state = with_description(replace(state, folder=before.folder), said, before)
        return metadata_of(said, before), replace(state, described=state.described + BELOW)

    def _enter(self, steps: Sequence[Step], outcome: _Outcome) -> None:
        """Enter finished steps into the books."""
        self._books.unchanged += outcome.there
        self._books.added -= outcome.there
        for step in steps:
            if step.number in outcome.reasons:
                self._books.leave_out(as_id(self._files[step.number].name), outcome.reasons[step.number])
            elif step.kind == "new":
                self._books.added += 1
            else:
                self._books.replaced += 1
                self._replaced[step.kind] += 1

    def _remove(self, ids: Sequence[str], *, counted: bool = True) -> None:
        for part in batches(ids, _DELETED):
            removed = self._search.delete(self._collection, part)
            self._pruned += removed if counted else 0

    def _tell(self, planned: Plan) -> None:
        """Print the counts beside the books."""
        others = set(self._found.others) - self._read.used()
        bare = sum(not said.own and not said.given for said in self._descriptions) if self._read.has_rows else 0
        gone = 0 if self._prune else len(planned.gone)
        moved, reworded = self._replaced["moved"], self._replaced["described"]
        renamed, first = len(planned.renamed), next(iter(planned.renamed), "")
        endings = _endings(others)
        lines = {
            f"{counted(len(others), *_NO_PICTURES)} ({endings})": len(others),
            f"{counted(len(self._found.repeated), 'link')} passed over to what is there already": len(self._found.repeated),
            f"{moved} moved, {reworded} with new metadata alone: not embedded again": moved + reworded,
            f"{counted(renamed, *_RENAMED)}, since another file has the shorter one: {first}": renamed,
            f"{counted(bare, 'picture')} without metadata": bare,
            f"{counted(gone, *_GONE)}: --prune removes {'it' if gone == 1 else 'them'}": gone,
            f"{counted(self._pruned, *_REMOVED)}": self._pruned,
        }
        for line, count in lines.items():
            if count:
                print(line)


def _windowed(pool: ThreadPoolExecutor, work: Any, parts: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield results in the order of the parts, a few of which run at a time: each holds its files in memory."""
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    for part in parts:
        waiting.append((part, pool.submit(work, part)))
        if len(waiting) > _REQUESTS:
            first, future = waiting.popleft()
            yield first, future.result()
    for part, future in waiting:
        yield part, future.result()


def _leaves(step: Step) -> bool:
    """Tell if a file was moved from a row of another id."""
    return step.kind == "moved" and step.row is not None and step.row.id != step.id


def _is_gone(path: str, is_itself: bool) -> bool:
    """Tell if a path has no file (no file of its own, not a link, if ``itself``); false if that can't be found out."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return is_itself and (not stat.S_ISREG(mode) or os.path.realpath(path) != path)


def _endings(names: Iterable[str]) -> str:
    endings = {os.path.splitext(name)[1].lower()[:12] or "no ending" for name in names}
    first = sorted(map(as_id, endings))
    return ", ".join(first[:6]) + (" and others" if len(first) > 6 else "")
