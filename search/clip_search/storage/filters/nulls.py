"""Nulls in filters: lists of values that DataFusion would merge are kept apart.

Its optimiser makes false of ``x IN (1) AND x IN (2)``, and true of ``x NOT IN (1) OR x NOT IN (2)``, also for an x that is
null, where both are null. In ``NOT (x IN (1) AND x IN (2))`` that is a wrong answer. It merges lists of the same expression
only, so each list here has another one of the same value: ``coalesce(x, x)``, ``coalesce(x, x, x)``, …
"""

from collections import Counter

from sqlglot import exp

from clip_client.errors import InvalidInput

_MOST = 32  # lists of one expression: the text grows with the square of their number


class Lists:
    """The lists of values in one filter."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def apart(self, operand: str, node: exp.Expr) -> str:
        """Return SQL of the same value as a comparison's ``operand``; raise InvalidInput if it is compared too often."""
        if not _is_list(node) or not _is_negated(node):
            return operand
        self._seen[operand] += 1
        count = self._seen[operand]
        if count > _MOST:
            raise InvalidInput(
                f"filter: {operand} is compared with more than {_MOST} lists of values below a NOT: put the values into one"
            )
        return operand if count == 1 else f"coalesce({', '.join([operand] * count)})"


def _is_list(node: exp.Expr) -> bool:
    """Tell if the optimiser sees a list: IN, or one of several values for which it is short."""
    around = _parent(node)
    return isinstance(node, exp.In) or (isinstance(node, exp.EQ) and isinstance(around, exp.Or)) or (
        isinstance(node, exp.NEQ) and isinstance(around, exp.And)
    )  # fmt: skip


def _is_negated(node: exp.Expr) -> bool:
    """Return false where null is as good as false: nothing but AND and OR is around."""
    around = _parent(node)
    while isinstance(around, exp.And | exp.Or):
        around = _parent(around)
    return around is not None


def _parent(node: exp.Expr) -> exp.Expr | None:
    around = node.parent
    while isinstance(around, exp.Paren):
        around = around.parent
    return around
