"""Extension of griffe: methods that are made of coroutines are documented as the methods that they are."""

from __future__ import annotations

import re
from typing import Any

import griffe

_MADE = re.compile(r"blocking(_iterator)?\((\w+)\.(\w+)\)")


class BlockingMethods(griffe.Extension):
    """Exchange ``name = blocking(Calls.name)`` for the method."""

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        """Exchange those of all classes, once everything is loaded."""
        for module in pkg.modules.values():
            for made in module.classes.values():
                for attribute in () if made.is_alias else [*made.attributes.values()]:
                    if match := _MADE.fullmatch(str(attribute.value)):
                        calls = pkg.modules_collection[made.resolve(match[2])]
                        made.set_member(attribute.name, method(calls[match[3]], attribute, is_iterator=bool(match[1])))


def method(coroutine: griffe.Function, attribute: griffe.Attribute, *, is_iterator: bool) -> griffe.Function:
    """Return the blocking form of a coroutine method."""
    returns = str(coroutine.returns).replace("AsyncIterator", "Iterator") if is_iterator else coroutine.returns
    made = griffe.Function(
        attribute.name,
        lineno=attribute.lineno,
        endlineno=attribute.endlineno,
        parameters=coroutine.parameters,
        returns=returns,
        docstring=coroutine.docstring,
    )
    made.overloads = coroutine.overloads
    return made
