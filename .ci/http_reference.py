"""Reference of an HTTP API as Markdown, from its OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_INTRODUCTION = """# HTTP API

Routes of the search sidecar, and below them the bodies and answers. [Search](../search.md#the-api) explains them; a running
sidecar shows the same at `/docs`, where they can be tried, and the OpenAPI document at `/openapi.json`. All but the pages and
`/health/…` take the token, `Authorization: Bearer TOKEN`, where one is set. [Errors](../search.md#errors) have one form.

This page is written by `make docs`.
"""
_TRIVIAL = {"Failure", "FailureDetails"}  # schemas that `Errors` of search.md explains
_VERBS = ("get", "post", "put", "delete")


def page(document: Schema) -> str:
    """Return the page."""
    routes = [
        route(path, verb, operation)
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
        if verb in _VERBS
    ]
    named = {**document["components"]["schemas"], **inline(document)}
    schemas = [
        schema(name, fields)
        for name, fields in sorted(named.items())
        if name not in _TRIVIAL and not name.startswith("HTTPValidation")
    ]
    return "\n".join([_INTRODUCTION, "## Routes\n", *routes, "## Bodies and answers\n", *schemas])


def inline(document: Schema) -> dict[str, Schema]:
    """Return the bodies that are described at their routes, by their titles."""
    operations = [operation for entry in document["paths"].values() for operation in entry.values()]
    bodies = [body for operation in operations for body in schemas_of(operation.get("requestBody", {}))]
    return {body["title"]: body for body in bodies if "properties" in body}


def route(path: str, verb: str, operation: Schema) -> str:
    """Return the section of a route."""
    parts = [f"### {verb.upper()} {path}", plain(operation.get("description") or operation.get("summary", ""))]
    if parameters := operation.get("parameters", []):
        rows = [(code(entry["name"]), entry["in"], kind(entry["schema"]), told(entry)) for entry in parameters]
        parts.append(table(("parameter", "in", "type", "meaning"), rows))
    scopes = [scope for way in operation.get("security", []) for scope in way.get("bearer", [])]
    parts += [f"Scope of the token: `{scope}`." for scope in scopes]
    bodies = [f"Body: {kind(body)}." for body in schemas_of(operation.get("requestBody", {}))]
    return "\n\n".join([*parts, *bodies, *answers(operation["responses"])]) + "\n"


def answers(responses: Schema) -> Iterator[str]:
    """Yield a line of the answers, and one of the statuses of errors."""
    good = {status: response for status, response in responses.items() if status < "400"}
    for status, response in good.items():
        kinds = " or ".join(kind(entry) for entry in schemas_of(response)) or response.get("description", "")
        yield f"Answer {status}: {kinds}."
    if errors := sorted(status for status in responses if "400" <= status < "600"):
        yield f"Errors: {', '.join(errors)}."


def schemas_of(described: Schema) -> list[Schema]:
    """Return the schemas of a body or an answer."""
    return [entry["schema"] for entry in described.get("content", {}).values() if entry.get("schema")]


def schema(name: str, fields: Schema) -> str:
    """Return the section of a body or an answer."""
    required = set(fields.get("required", ()))
    rows = [
        (code(field), kind(entry), "required" if field in required else "", told(entry))
        for field, entry in fields.get("properties", {}).items()
    ]
    shown = table(("field", "type", "", "meaning"), rows) if rows else kind(fields)
    return f"### {name}\n\n{plain(fields.get('description', ''))}\n\n{shown}\n"


def told(entry: Schema) -> str:
    """Return the meaning of a parameter or field, with its default and its bounds."""
    within = entry.get("schema", entry)
    described = next((e["description"] for e in (entry, *choices(within)) if "description" in e), "")
    default = within.get("default")
    parts = [plain(described), f"default {code(default)}" if default not in (None, "", [], {}) else "", bounds(within)]
    return "; ".join(part for part in parts if part)


def bounds(entry: Schema) -> str:
    """Return the bounds of a value in words."""
    entries = choices(entry)
    least = next((e[key] for e in entries for key in ("minimum", "minLength", "minItems") if key in e), None)
    most = next((e[key] for e in entries for key in ("maximum", "maxLength", "maxItems") if key in e), None)
    return ", ".join([*([f"at least {least:,}"] if least else []), *([f"at most {most:,}"] if most else [])])


def choices(entry: Schema) -> list[Schema]:
    """Return a schema and those that it is one of."""
    return [entry, *entry.get("anyOf", ()), *entry.get("oneOf", ())]


def kind(entry: Schema) -> str:
    """Return the type of a value; schemas of their own are links."""
    if "$ref" in entry:
        name = entry["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "properties" in entry and "title" in entry:
        return f"[{entry['title']}](#{entry['title'].lower()})"
    if options := entry.get("anyOf") or entry.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(option) for option in options if option.get("type") != "null"))
    if values := entry.get("enum", [entry["const"]] if "const" in entry else []):
        return " or ".join(code(value) for value in values)
    if entry.get("type") == "array":
        return f"list of {kind(entry.get('items', {}))}"
    if entry.get("type") == "object" and isinstance(entry.get("additionalProperties"), dict):
        return f"object of {kind(entry['additionalProperties'])}"
    return str(entry.get("format") or entry.get("type") or "any")


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(escaped(cell) for cell in line)} |" for line in lines)


def escaped(cell: str) -> str:
    """Return a cell's text, which may hold the sign between cells."""
    return cell.replace("|", "\\|")


def code(value: object) -> str:
    """Return a value as code."""
    return f"`{value}`"


def plain(text: str) -> str:
    """Return a docstring as Markdown of a line."""
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()
