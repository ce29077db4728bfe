"""Requests that nobody would send on purpose, seeded: mutations of good ones, over all routes of a sidecar."""

from __future__ import annotations

import http.client
import json
import random
import socket
import string
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sidecars import PICTURES, SIZE, Sidecar, base64_of

TIMEOUT_S = 30
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 1e-320, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, 10_000, 10_001,
    "", " ", "a", "x" * 5000, "\0", "\u202e", "é", "🦆" * 50, "'", '"', "`", "\\", "%", "../..", "a/b", "-1", "NaN", "null",
    "http://127.0.0.1:9/a.jpg", "http://[", "http://10.0.0.1/", "file:///etc/passwd", "data:", "data:,", "data:;base64,",
    "AAAA", "data:image/png;base64,%%", [], [[]], [None], [1e308] * SIZE, [0.0] * SIZE, [0.1] * SIZE, [1e-30] * SIZE, ["a"], {},
    {"a": {}}, {"": ""}, [[[[[[[[]]]]]]]], {"text": "a"}, [{"text": "a"}] * 40, "image", "text", "replace", "skip",
]  # fmt: skip
LITERAL = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e400",
    '"\\ud800"',
    '"\\u0000"',
    "9" * 400,
    "1" * 5000 + ".5",
    "tru",
    "[" * 2000,
    "{" * 500,
]
WORDS = [
    *(
        "id",
        "row",
        "year",
        "caption",
        "Score",
        "has_image",
        "time",
        "source",
        "vector_image",
        "thumbnail",
        "nope",
        "`year`",
        '"Score"',
    ),
    *("=", "!=", "<", ">=", "<>", "==", "+", "-", "*", "/", "%", "||", "::", "->", "~", "&", "^", "<=>", ";", "--", "/*", "*/"),
    *(
        "AND",
        "OR",
        "NOT",
        "LIKE",
        "ILIKE",
        "IN",
        "BETWEEN",
        "IS",
        "NULL",
        "TRUE",
        "FALSE",
        "ESCAPE",
        "CAST",
        "AS",
        "INT",
        "CASE",
    ),
    *(
        "WHEN",
        "THEN",
        "END",
        "SELECT",
        "FROM",
        "UNION",
        "EXISTS",
        "ANY",
        "ALL",
        "INTERVAL",
        "DATE",
        "TIMESTAMP",
        "X'00'",
        "N'a'",
    ),
    *(
        "(",
        ")",
        "((",
        "))",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "?",
        "$1",
        ":a",
        "@a",
        "#",
        "'a'",
        "'2024-05-01'",
        "''",
        "'",
        '"',
        "`",
    ),
    *(
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "1e308",
        "1e400",
        "0.1",
        ".5",
        "0x1F",
        "'%_%'",
        "é",
        "🦆",
        "\0",
    ),
    *(
        "lower(caption)",
        "abs(year)",
        "length(id)",
        "round(Score, 2)",
        "coalesce(year, 1)",
        "date_part('year', time)",
        "repeat('a', 9e9)",
    ),
    *("range(0, 1e9)", "lpad(id, 2147483647)", "array_repeat(1, 9223372036854775807)", "substr(id, 1, 2)", "trim(id)", "now()"),
]
COLUMNS = ["id", "row", "year", "caption", "Score", "time", "has_image", "nope", "vector_image", "", "score", "`year`"]
GOOD = [
    "year > 2003",
    "year BETWEEN 2001 AND 2008 OR caption LIKE '%1%'",
    "NOT (id IN ('p1', 'p2') AND has_image)",
    "Score / 2 >= 1.5 AND year % 2 = 0",
    "time > timestamp '2024-01-01' AND source IS NOT NULL",
    "cast(year as string) ILIKE '20%'",
    "abs(year - 2005) < 3",
    "lower(caption) = 'picture 3'",
]


@dataclass
class Found:
    """Outcome of a run: answers by status, and each request with an answer that must not happen."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def answered(self, status: int, told: str) -> None:
        self.statuses[status] += 1
        if status >= 500 and not (status == 503 and "/health/ready" in told):  # which a busy Triton may get
            self.failures.append(f"{status}: {told[:600]}")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Requests:
    """A seeded source of requests."""

    def __init__(self, seed: int, collection: str) -> None:
        self._draw, self._name = random.Random(seed), collection

    def next(self) -> Request:
        draw = self._draw
        made = draw.choice([self._posted] * 6 + [self._listed] * 2 + [self._odd_path, self._read])()
        if draw.random() < 0.1:
            made = Request(
                draw.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]), made.path, made.body
            )
        if draw.random() < 0.15:
            made = Request(made.method, made.path, made.body, (self._header(),))
        return made

    def where(self) -> str:
        """A filter: a good one, words in any order, or a good one with something wrong."""
        draw = self._draw
        kind = draw.random()
        if kind < 0.2:
            return f" {draw.choice(['AND', 'OR'])} ".join(draw.sample(GOOD, draw.randint(1, 3)))
        if kind < 0.6:
            return draw.choice([" ", " ", ""]).join(draw.choices(WORDS, k=draw.randint(1, 12)))
        text = draw.choice(GOOD)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(text) + 1)
            cut = draw.choice([0, 0, 1, 3])
            text = text[:at] + draw.choice([*WORDS, *string.punctuation, "(" * 50, "9" * 30]) + text[at + cut :]
        return text

    def _bodies(self) -> list[tuple[str, dict[str, Any]]]:
        draw, name = self._draw, self._name
        n, image, vector = draw.randrange(12), base64_of(PICTURES[draw.randrange(12)]), [draw.gauss(0, 1) for _ in range(SIZE)]
        path = f"/v1/collections/{name}"
        term = draw.choice([{"text": f"a {n}"}, {"image": image}, {"vector": vector}, {"id": f"p{n}"}])
        row = {
            "id": f"f{draw.randrange(200)}",
            **draw.choice([{"text": "a"}, {"vector": vector}]),
            "metadata": {"year": n, "Score": n / 2},
        }
        return [
            (
                f"{path}/search",
                {**term, "k": 5, "filter": self.where(), "threshold": -0.5, "deduplicate": 0.95, "columns": ["year"]},
            ),
            (
                f"{path}/search",
                {"mix": [{**term, "weight": draw.uniform(-2, 2)}], "minus": [{"id": "p1", "weight": 0.5}], "offset": 2},
            ),
            (f"{path}/search", {"vector": vector, "filter": self.where(), "modality": draw.choice(["image", "text"])}),
            (
                f"{path}/search",
                {
                    **term,
                    "k": 7,
                    "sort": {"column": draw.choice(COLUMNS), "descending": n % 2 == 0},
                    "count": True,
                    "threshold": 0.1,
                },
            ),
            (f"{path}/duplicates", {"threshold": draw.uniform(0.5, 1), "filter": self.where(), "limit": n + 1, "offset": n}),
            ("/v1/queries", {"image": image}),
            (f"{path}/delete", {"filter": f"id = 'f{n}' AND ({self.where()})"}),
            (f"{path}/delete", {"ids": [f"f{n}", "none"]}),
            (f"{path}/get", {"ids": [f"p{n}", "x"], "vectors": True}),
            (f"{path}/rows", {"rows": [row, {**row, "id": f"g{n}"}], "on_conflict": draw.choice(["error", "replace", "skip"])}),
            ("/v1/collections", {"name": f"made{n}", "dimension": 4, "fingerprint": "f", "columns": {"year": "int"}}),
            ("/v1/embeddings", {"model": "clip", "input": ["a cat", f"data:;base64,{image}"], "encoding_format": "base64"}),
            ("/v1/embeddings", {"model": "clip", "input": "http://127.0.0.1:9/", "modality": "image", "dimensions": SIZE}),
            ("/knn-service", {"text": "a", "modality": "image", "num_images": 5, "indice_name": name, "deduplicate": True}),
            (
                "/knn-service",
                {"embedding_input": vector, "modality": "text", "num_images": 2, "indice_name": name, "num_result_ids": 9},
            ),
            ("/metadata", {"ids": [0, n, 99], "indice_name": name}),
            (f"{path}/rebuild?wait=false", {}),
        ]

    def _posted(self) -> Request:
        path, body = self._draw.choice(self._bodies())
        for _ in range(self._draw.choice([0, 1, 1, 1, 2, 4])):
            body = self._mutated(body)
        content = json.dumps(body).encode()
        if self._draw.random() < 0.2:
            content = self._broken(content)
        return Request("POST", path, content)

    def _mutated(self, value: Any) -> Any:
        """A JSON value with one thing in it changed."""
        draw = self._draw
        if isinstance(value, dict) and value and draw.random() < 0.85:
            name = draw.choice([*value])
            kind = draw.random()
            if kind < 0.1:
                return {other: one for other, one in value.items() if other != name}
            if kind < 0.2:
                return {**value, str(draw.choice(NASTY))[:50]: draw.choice(NASTY)}
            return {**value, name: self._mutated(value[name])}
        if isinstance(value, list) and value and draw.random() < 0.6:
            at = draw.randrange(len(value))
            return [*value[:at], self._mutated(value[at]), *value[at + 1 :]]
        return draw.choice(NASTY)

    def _broken(self, content: bytes) -> bytes:
        draw = self._draw
        at = draw.randrange(len(content) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            return content[:at]
        if kind == 1:
            return content[:at] + bytes(draw.choices(range(256), k=draw.randint(1, 5))) + content[at:]
        if kind == 2:
            return draw.choice(
                [b"", b"null", b"[]", b'"a"', b"\xef\xbb\xbf" + content, content * 2, content.decode().encode("utf-16")]
            )
        found = [n for n in range(len(content)) if content[n : n + 2] == b": "]
        at = draw.choice(found or [0]) + 2
        return content[:at] + draw.choice(LITERAL).encode() + b", " + content[at:]

    def _listed(self) -> Request:
        draw = self._draw
        if draw.random() < 0.3:
            names = ",".join(draw.sample(COLUMNS, draw.randint(0, 4)))
            query = urllib.parse.urlencode({"filter": self.where(), "columns": names}, errors="surrogatepass")
            return Request("GET", f"/v1/collections/{self._name}/facets?{query}")
        fields = {
            "filter": self.where(),
            "limit": draw.choice([1, 5, 100]),
            "after": draw.choice([-1, 0, 3]),
            "vectors": "false",
            "order": draw.choice(["number", "newest", "random"]),
            "seed": draw.choice([0, 7]),
        }
        for _ in range(draw.choice([0, 1, 2])):
            fields[draw.choice([*fields, "other"])] = draw.choice(NASTY)
        query = urllib.parse.urlencode(fields, errors="surrogatepass") if draw.random() < 0.9 else "%ff%fe=&filter=%ed%a0%80&&="
        return Request("GET", f"/v1/collections/{self._name}/rows?{query}")

    def _odd_path(self) -> Request:
        draw = self._draw
        part = (
            urllib.parse.quote(str(draw.choice(NASTY))[:300], safe="")
            if draw.random() < 0.8
            else draw.choice(["%00", "%ff", "%2e%2e", "%"])
        )
        base = f"/v1/collections/{self._name}"
        kinds = [
            f"/v1/collections/{part}",
            f"{base}/rows/{part}",
            f"{base}/thumbnails/{part}",
            f"{base}/pictures/{part}",
            f"{base}/facets?columns={part}",
            f"/v1/queries/{part}",
            f"{base}/{part}",
            f"/page/{part}",
            f"/{part}",
        ]
        path = draw.choice([*kinds, f"{base}/rebuild?wait={part}", f"/v1/collections/{part}/search"])
        gone = path.startswith((f"{base}?", f"{base}/?")) or path in (base, f"{base}/")
        return Request("GET" if gone else draw.choice(["GET", "POST", "DELETE"]), path, b"{}" if draw.random() < 0.5 else None)

    def _read(self) -> Request:
        base = f"/v1/collections/{self._name}"
        paths = ["/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/metrics", "/metrics-summary", "/config.json"]
        paths += [
            "/indices-list",
            "/v1/models",
            "/v1/collections",
            base,
            f"{base}/rows/p1",
            f"{base}/thumbnails/3",
            f"{base}/pictures/3",
            f"{base}/facets",
            "/page/page.js",
        ]
        return Request("GET", self._draw.choice(paths))

    def _header(self) -> tuple[str, str]:
        values = [
            "[",
            "http://[",
            "null",
            "evil.example",
            "localhost:99999",
            "\xff",
            "",
            "*",
            "bytes=-1",
            "gzip",
            "text/plain",
            "x" * 3000,
        ]
        names = [
            "Host",
            "Origin",
            "Authorization",
            "Content-Type",
            "Accept",
            "Range",
            "X-Forwarded-For",
            "Expect",
            "Cookie",
            "Referer",
        ]
        return self._draw.choice(names), self._draw.choice(values)


class Client:
    """One connection that sends them, opened anew where the sidecar closed it."""

    def __init__(self, sidecar: Sidecar, found: Found) -> None:
        self._sidecar, self._found = sidecar, found
        self._connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=TIMEOUT_S)

    def send(self, request: Request) -> None:
        told = f"{request.method} {request.path} {request.headers} {(request.body or b'')!r}"
        try:
            status, answer = self._asked(request)
        except TimeoutError:
            self._connection.close()
            self._found.failures.append(f"no answer within {TIMEOUT_S} s: {told[:600]}")
        except (http.client.HTTPException, OSError):
            self._connection.close()
            self._found.statuses[0] += 1
        else:
            self._found.answered(status, f"{told[:400]} -> {answer[:150]!r}")

    def _asked(self, request: Request) -> tuple[int, bytes]:
        headers = {"Host": "localhost", **dict(request.headers)}
        self._connection.putrequest(request.method, _ascii(request.path), skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            self._connection.putheader(name, value.encode("latin-1"))
        if request.body is not None:
            self._connection.putheader("Content-Length", str(len(request.body)))
        self._connection.endheaders(request.body)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _ascii(path: str) -> str:
    return urllib.parse.quote(path, safe="%/:?#[]@!$&'()*+,;=")


def alive(sidecar: Sidecar) -> bool:
    """Tell if the process answers."""
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=TIMEOUT_S):
        return sidecar.process.poll() is None and sidecar.ask("GET", "/health/live")[0] == 200
