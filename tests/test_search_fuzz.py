"""A real sidecar with a real Triton under requests that make no sense: no 5xx, no hang, no process ended, memory flat.

``CLIPSERVE_FUZZ=50000 pytest tests/test_search_fuzz.py -s`` sends so many, and ``CLIPSERVE_FUZZ_SEED`` draws others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fuzzing
import hypothesis
import pytest
import schemathesis
import sidecars
from amount import amount
from fuzzing import Client, Found, Requests
from hypothesis import HealthCheck, Phase
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance
from servers import Server
from sidecars import PICTURES, Sidecar

from clip_client.search import Row, Search

COUNT = amount(600, 2000, "CLIPSERVE_FUZZ")
SEED = int(os.environ.get("CLIPSERVE_FUZZ_SEED", "0"))
CLIENTS = 4
CONFORMANCE = [status_code_conformance, content_type_conformance, response_schema_conformance]
_TIDY = 250
"""Collections that the requests made are dropped after so many of one client, since each has threads of its own."""

pytestmark = pytest.mark.timeout(max(600, COUNT // 10))


@pytest.fixture(scope="module")
def fuzzed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    options = ["--allow-network", "127.0.0.1/32", "--body-mb", "4"]
    with sidecars.running(tmp_path_factory.mktemp("fuzz"), server.address, *options) as sidecar:
        yield sidecar


def fill(search: Search, name: str) -> None:
    search.create(name, columns={"year": "int", "Score": "float"})
    rows = [
        Row(id=f"p{n}", image=one, metadata={"caption": f"picture {n}", "year": 2000 + n, "Score": n / 2}, source=f"s{n}")
        for n, one in enumerate(PICTURES)
    ]
    assert search.add(name, rows).added == 12


def tidy(sidecar: Sidecar, kept: str) -> None:
    """Drop what the requests made, and make anew what they dropped; what is stored can be read and indexed."""
    with sidecar.client() as search:
        names = {one["name"] for one in search.collections()}
        for name in names - {kept}:
            search.drop(name)
        if kept not in names:
            fill(search, kept)
        search.rebuild(kept, wait=True)


def sent(sidecar: Sidecar, count: int, seed: int, found: Found) -> None:
    """Send so many requests from several clients, each to a collection of its own."""

    def work(number: int) -> None:
        requests, client = Requests(seed * 1000 + number, "fuzz"), Client(sidecar, found)
        for _ in range(count // CLIENTS):
            client.send(requests.next())

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))


def test_mutated_requests_are_answered_and_never_with_a_5xx(fuzzed: Sidecar) -> None:
    found, memory = Found(), []
    rounds = max(4, COUNT // (_TIDY * CLIENTS))
    for number in range(rounds):
        tidy(fuzzed, "fuzz")
        sent(fuzzed, COUNT // rounds, SEED + number, found)
        assert fuzzing.alive(fuzzed), f"seed {SEED + number}"
        memory.append(fuzzed.rss() / 2**20)
        print(
            f"{number + 1}/{rounds}: {memory[-1]:.0f} MB, {sum(found.statuses.values())} answered, {found.failures[-3:]}",
            flush=True,
        )
    tidy(fuzzed, "fuzz")
    told = f"{sum(found.statuses.values())} requests, seed {SEED}: {dict(sorted(found.statuses.items()))}"
    print(f"\n{told}, MB {memory[0]:.0f} .. {memory[-1]:.0f}")
    assert found.failures == []
    assert found.statuses[200] > COUNT / 20
    assert found.statuses[400] > COUNT / 5
    assert memory[-1] - memory[len(memory) // 4] < 150, memory
    assert fuzzed.missing() == {}
    with fuzzed.client() as search:
        assert len(search.query("fuzz", "a cat", where="id LIKE 'p%'", k=12)) > 0


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "$ref":
                yield one
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_references_of_the_openapi_document_resolve(fuzzed: Sidecar) -> None:
    document = fuzzed.ask("GET", "/openapi.json")[1]
    found = set(references(document))
    assert found
    for reference in found:
        at = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


schemathesis.serializer.alias("application/vnd.apache.arrow.stream", "application/octet-stream")


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(GenerationMode.POSITIVE, id="valid"),
        pytest.param(GenerationMode.NEGATIVE, id="invalid", marks=pytest.mark.long),
    ],
)
def test_requests_made_from_the_openapi_document(fuzzed: Sidecar, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    operations = [one.ok() for one in schema.get_all_operations()]
    found, each = Found(), max(5, COUNT // (8 * len(operations)))
    for operation in operations:
        tidy(fuzzed, "fuzz")

        @hypothesis.seed(SEED)
        @hypothesis.settings(
            max_examples=each, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            answer = case.call(timeout=fuzzing.TIMEOUT_S)
            told = f"{case.method} {case.formatted_path} {case.query} {case.body!r} {answer.text[:150]}"
            found.answered(answer.status_code, told)
            try:
                case.validate_response(answer, checks=CONFORMANCE)
            except FailureGroup as problem:
                found.failures.append(f"{told}: not as the document says, {problem.exceptions}")

        try:
            ask()
        except hypothesis.errors.Unsatisfiable:  # nothing invalid can be said of an operation without parameters
            continue
    print(f"\n{sum(found.statuses.values())} requests: {dict(sorted(found.statuses.items()))}")
    assert found.failures == []
    assert sum(found.statuses.values()) > 2 * len(operations)
    assert fuzzing.alive(fuzzed)
    assert fuzzed.missing() == {}
