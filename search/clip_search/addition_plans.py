"""Plans of additions: what each writes, in the place of what, and which of them share a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clip_client.errors import InvalidInput
from clip_search.errors import Conflict
from clip_search.storage.columns import Columns, refused
from clip_search.storage.rows import NewRow
from clip_search.storage.writer import Add, Added


@dataclass(frozen=True)
class Plan:
    """Plan of an addition: it writes ``rows``, some of them in the place of those that are ``there``, by id."""

    add: Add
    rows: list[NewRow]
    there: Mapping[str, int]
    refused: Mapping[str, str]  # the reason by id of each row whose metadata can't be had

    def replaced(self) -> list[int]:
        """Return the numbers of the rows that are replaced."""
        return [self.there[row.id] for row in self.rows if row.id in self.there]

    def outcome(self) -> Added | InvalidInput:
        """Return the outcome of an addition that was written; an error if every row was refused."""
        rows, refused = self.add.rows, self.refused
        if refused and len(refused) == len(rows):
            errors = {n: refused[row.id] for n, row in enumerate(rows)}
            return InvalidInput(errors[0], errors=errors)
        written, replaced = len(self.rows), len(self.replaced())
        skipped = len(rows) - written - len(refused)
        return Added(written - replaced, replaced, skipped, [row.id for row in rows if row.id not in refused], refused)


def disjoint(adds: Sequence[Add]) -> tuple[list[Add], list[Add]]:
    """Split additions: those with no id in common, and the rest; none overtakes another that shares an id with it."""
    chosen: list[Add] = []
    waiting: list[Add] = []
    ids = set[str]()
    for add in adds:
        own = {row.id for row in add.rows}
        (waiting if ids & own else chosen).append(add)
        ids |= own
    return chosen, waiting


def planned(add: Add, there: Mapping[str, int], columns: Columns) -> Plan | Conflict:
    """Return the plan of an addition, or the conflict that refuses it; the columns take what it needs."""
    conflicts = [row.id for row in add.rows if row.id in there]
    if conflicts and add.on_conflict == "error":
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        return Conflict(f"id {conflicts[0]!r}{more} is there already: send on_conflict 'replace' or 'skip'")
    rows = [row for row in add.rows if add.on_conflict == "replace" or row.id not in there]
    reasons = refused(columns, rows, add.columns)
    return Plan(add, [row for row in rows if row.id not in reasons], there, reasons)
