"""Tables of figures, as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows of figures; numbers are shown to three digits (just below 1 to five), None as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """Return the table as Markdown; all columns but the first are aligned right."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        return "\n".join(f"| {' | '.join(map(shown, row))} |" for row in (self.columns, rule, *self.rows))


def shown(cell: Cell) -> str:
    """Return a cell as people read it."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.5f}" if 0.9995 <= cell < 0.999995 else f"{cell:.3g}"  # a cosine that isn't 1 shouldn't look like it
