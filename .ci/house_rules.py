"""House rules that no linter knows: openings of docstrings, sizes of files and functions.

python .ci/house_rules.py                     # every Python file that git tracks
python .ci/house_rules.py --names PATH ...    # files, folders; and names that say nothing

Prints file:line: message for each violation and exits with 1 if there are any. Tests may be as long as they like.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

QUESTIONS = frozenset({"what", "whether", "how", "which", "where", "who", "whose", "whom"})
EMPTY_NAMES = frozenset({"found", "one", "done"})
FILE_LINES, FUNCTION_LINES, PARAMETERS = 300, 40, 6
SIGNATURES_OF_OTHERS = {
    "AsyncClip.__init__": "keyword-only options of the SDK",
    "AsyncSearch.__init__": "as AsyncClip",
    "Clip.__init__": "as AsyncClip",
    "Search.__init__": "as AsyncClip",
    "query": "keyword-only options of the SDK, named as in the sidecar's API",
    "feedback": "as query",
    "rows": "as query",
    "encode": "sentence-transformers' own",
    "new_from_descr": "numpy's own C function",
}
"""Functions whose parameters aren't ours to choose, and the reason; a method may be named with its class."""

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class Violation(NamedTuple):
    """A line and the reason."""

    line: int
    message: str


def main() -> None:
    """Check and report."""
    options = parser().parse_args()
    violations = 0
    for path in python_files(options.paths):
        for line, message in sorted(check(path, options.names)):
            violations += 1
            print(f"{path}:{line}: {message}")
    print(f"{violations} violations", file=sys.stderr)
    sys.exit(1 if violations else 0)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders (default: what git tracks)")
    made.add_argument("--names", action="store_true", help=f"also refuse the names {', '.join(sorted(EMPTY_NAMES))}")
    return made


def python_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files given, those of the folders given, or all that git tracks."""
    if not paths:
        listed = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, check=True)  # noqa: S607
        return [path for path in map(Path, listed.stdout.splitlines()) if path.exists()]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def check(path: Path, names: bool) -> Iterator[Violation]:
    """Yield the violations of a file."""
    source = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(source, str(path))))
    yield from question_docstrings(nodes)
    if "tests" not in path.resolve().parts:
        yield from sizes(source, nodes)
    if names:
        yield from empty_names(nodes)


def question_docstrings(nodes: Sequence[ast.AST]) -> Iterator[Violation]:
    """Refuse docstrings that open with a question word; those of attributes count."""
    for node in nodes:
        for statement in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                word = first_word(statement.value.value)
                if word.lower() in QUESTIONS:
                    yield Violation(statement.lineno, f"docstring opens with {word!r}: open with a verb or a noun")


def first_word(content: object) -> str:
    """Return the first word of a string, without punctuation; none of anything else."""
    words = content.split(maxsplit=1) if isinstance(content, str) else []
    return words[0].strip("*_`\"'(,:;.?!").removesuffix("'s") if words else ""


def sizes(source: str, nodes: Sequence[ast.AST]) -> Iterator[Violation]:
    """Refuse what is too long, and functions with too many parameters; ``self`` and ``cls`` don't count."""
    if (lines := len(source.splitlines())) > FILE_LINES:
        yield Violation(1, f"the file has {lines} lines, at most {FILE_LINES}: divide it")
    owners = {method: f"{node.name}." for node in nodes if isinstance(node, ast.ClassDef) for method in node.body}
    for node in nodes:
        if isinstance(node, Function):
            allowed = {node.name, owners.get(node, "") + node.name} & SIGNATURES_OF_OTHERS.keys()
            if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES:
                yield Violation(node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES}: divide it")
            if (count := len(parameters(node))) > PARAMETERS and not allowed:
                yield Violation(node.lineno, f"{node.name} takes {count} parameters, at most {PARAMETERS}: use a dataclass")


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters, but for the object that a method is called on."""
    taken = function.args
    every = [*taken.posonlyargs, *taken.args, *([taken.vararg] if taken.vararg else []), *taken.kwonlyargs]
    return [argument.arg for argument in every if argument.arg not in {"self", "cls"}]


def empty_names(nodes: Sequence[ast.AST]) -> Iterator[Violation]:
    """Refuse variables, parameters, attributes and functions whose name says nothing."""
    for node in nodes:
        name = defined_name(node)
        if name in EMPTY_NAMES:
            yield Violation(getattr(node, "lineno", 1), f"the name {name!r} says nothing: use the field's noun")


def defined_name(node: ast.AST) -> str | None:
    """Return the name that a node defines, if it defines one."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, Function) else None


if __name__ == "__main__":
    main()
