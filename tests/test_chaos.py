"""Rehearsal of faults: its judge notices what it has to, its faults are made, its report tells them."""

from __future__ import annotations

import itertools
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from servers import free_ports
from sidecars import Sidecar

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))
sys.path.append(str(ROOT))

import chaos.__main__ as chaos_main  # noqa: E402
from chaos import faults, judgement, rehearsal  # noqa: E402
from chaos.asking import NO_ANSWER, Answer, Door  # noqa: E402
from chaos.damage import damage  # noqa: E402
from chaos.kinds import COLLECTION, Requests  # noqa: E402
from chaos.ledger import Ledger  # noqa: E402
from chaos.load import RIGHT, WRONG, Kind, Load, Outcome  # noqa: E402
from chaos.rehearsal import Rehearsed, plan, wanted  # noqa: E402
from chaos.relay import Relay  # noqa: E402
from chaos.report import Report  # noqa: E402
from chaos.samples import PICTURES, TEXTS, Samples, drawn, metadata  # noqa: E402
from chaos.services import RESTART_S, Service  # noqa: E402

SIZE = 16


@pytest.fixture(scope="module")
def samples() -> Samples:
    pictures = np.stack([drawn(10**6 + n, SIZE) for n in range(PICTURES)])
    texts = np.stack([drawn(2 * 10**6 + n, SIZE) for n in range(TEXTS)])
    return Samples(["cGljdHVyZQ=="] * PICTURES, pictures, [f"text {n}" for n in range(TEXTS)], texts, 2e-3)


@pytest.fixture
def ledger() -> Ledger:
    """One with r0000 as row 2 and r0001 as row 4, acknowledged."""
    made = Ledger(4)
    made.end(made.begin({"r0000": 2, "r0001": 4}), at=1.0)
    return made


class TestLedger:
    def test_what_was_acknowledged_is_there(self, ledger: Ledger) -> None:
        assert ledger.judge({"r0000": 2, "r0001": 4}) == []
        assert ledger.judge({"r0000": 2}) == ["'r0001' was lost: expected row 4"]
        assert ledger.judge({"r0000": 2, "r0001": 6}) == ["'r0001' is row 6: expected 4"]

    def test_what_was_deleted_stays_away(self, ledger: Ledger) -> None:
        ledger.end(ledger.begin({"r0001": None}), at=2.0)
        assert ledger.judge({"r0000": 2}) == []
        assert ledger.judge({"r0000": 2, "r0001": 4}) == ["'r0001' is back as row 4, or was never sent"]

    def test_what_was_refused_is_absent(self, ledger: Ledger) -> None:
        ledger.refuse(ledger.begin({"r0001": 6, "r0002": 8}))
        assert ledger.judge({"r0000": 2, "r0001": 4}) == []
        assert len(ledger.judge({"r0000": 2, "r0001": 6, "r0002": 8})) == 2

    def test_what_has_no_answer_is_done_or_not_but_not_by_half(self, ledger: Ledger) -> None:
        ledger.leave_open(ledger.begin({"r0001": 6, "r0002": 8}))
        assert ledger.judge({"r0000": 2, "r0001": 4}) == []
        assert ledger.judge({"r0000": 2, "r0001": 6, "r0002": 8}) == []
        assert ledger.judge({"r0000": 2, "r0001": 6}) == ["half of the change {'r0001': 6, 'r0002': 8} was made"]

    def test_ids_without_an_answer_wait_for_the_judge(self, ledger: Ledger) -> None:
        draw = random.Random(0)
        assert len(ledger.claim(draw, 1, there=True)) == 1
        name = ledger.begin(dict.fromkeys(ledger.claim(draw, 1, there=True)))
        ledger.leave_open(name)
        assert ledger.claim(draw, 4, there=True) == []
        ledger.settle({"r0000": 2}, at=3.0)
        assert ledger.judge({"r0000": 2}) == []
        ledger.release(["r0000"])
        assert ledger.claim(draw, 1, there=True) == ["r0000"]

    def test_hits_are_of_their_row_and_not_gone(self, ledger: Ledger) -> None:
        ledger.end(ledger.begin({"r0001": 6}), at=5.0)
        assert ledger.misplaced("r0001", 6, 9.0) == ""
        assert "is of 'r0000'" in ledger.misplaced("r0001", 2, 9.0)
        assert "whose end was acknowledged before" in ledger.misplaced("r0001", 4, 9.0)
        assert ledger.misplaced("r0001", 4, 4.0) == ""  # asked before
        assert ledger.misplaced("r0001", 4, None) == ""  # of a sidecar that follows


class Told(Door):
    """A door behind which the test stands."""

    def __init__(self, *bodies: Any, outcome: int | str = 200) -> None:
        super().__init__("writer", 9)
        self.bodies, self.outcome = itertools.cycle(bodies), outcome

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float = 0) -> Answer:
        return Answer(self.outcome, next(self.bodies), 10.0, 10.5)


def outcome_of(name: str, door: Door, ledger: Ledger, samples: Samples) -> str:
    kind = next(kind for kind in Requests(door, ledger, samples).kinds() if kind.name == name)
    sent = kind.send(random.Random(1))
    assert sent
    return sent[1]


def hit(samples: Samples, query: np.ndarray, id: str, serial: int, **changed: Any) -> dict[str, Any]:
    score = float(samples.vector(serial) @ query)
    return {"id": id, "score": score, "metadata": metadata(serial), **changed}


class TestAnswers:
    def test_a_right_one(self, ledger: Ledger, samples: Samples) -> None:
        query = samples.text_vectors[4]
        hits = sorted([hit(samples, query, "r0000", 2), hit(samples, query, "r0001", 4)], key=lambda one: -one["score"])
        assert self.searched(samples, ledger, hits) == ""

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"score": 0.99}, "has a score of 0.9900, expected"),
            ({"id": "r0001"}, "which is of 'r0000'"),
            ({"metadata": {"serial": 2, "label": "row 4"}}, "is shown with"),
            ({"metadata": {}}, "is shown with"),
        ],
    )
    def test_a_wrong_one(self, ledger: Ledger, samples: Samples, changed: dict[str, Any], message: str) -> None:
        assert message in self.searched(samples, ledger, [hit(samples, samples.text_vectors[4], "r0000", 2) | changed])

    def searched(self, samples: Samples, ledger: Ledger, hits: list[Any]) -> str:
        drawn_text = random.Random(1).randrange(TEXTS)
        moved = [one | {"score": one["score"]} for one in hits]
        assert drawn_text == 4
        return outcome_of("search by text", Told({"hits": moved}), ledger, samples)

    def test_a_filter_finds_all_and_nothing_else(self, ledger: Ledger, samples: Samples) -> None:
        assert "the filter finds []" in outcome_of("search with a filter", Told({"hits": []}), ledger, samples)

    def test_a_row_is_found_by_its_vector(self, ledger: Ledger, samples: Samples) -> None:
        assert "isn't found by its vector" in outcome_of("search by vector", Told({"hits": []}), ledger, samples)

    def test_rows_that_are_counted_wrongly(self, ledger: Ledger, samples: Samples) -> None:
        told = {"added": 0, "replaced": 0, "deleted": 7, "errors": []}
        assert "expected" in outcome_of("delete by id", Told(told), ledger, samples)
        assert "expected" in outcome_of("add vectors", Told(told), ledger, samples)

    @pytest.mark.parametrize(
        ("outcome", "message", "unanswered"),
        [
            (NO_ANSWER, "", 1),
            (503, "it isn't known if the change was stored", 1),
            (507, "the disk is full, nothing was added", 0),
        ],
    )
    def test_what_is_known_of_a_change_that_failed(
        self, ledger: Ledger, samples: Samples, outcome: int | str, message: str, unanswered: int
    ) -> None:
        outcome_of("delete by id", Told({"message": message}, outcome=outcome), ledger, samples)
        assert ledger.unanswered == unanswered
        assert ledger.acknowledged == 1


@pytest.fixture
def collection(sidecar: Sidecar, samples: Samples) -> Iterator[Sidecar]:
    """A real sidecar with a collection of the rehearsal's name."""
    columns = {"serial": "int", "label": "string"}
    assert (
        sidecar.ask("POST", "/v1/collections", {"name": "chaos", "dimension": SIZE, "fingerprint": "", "columns": columns})[0]
        < 300
    )
    yield sidecar
    assert sidecar.ask("DELETE", COLLECTION)[0] == 200


def test_the_judge_reads_a_real_sidecar(collection: Sidecar, samples: Samples) -> None:
    ledger, door, draw = Ledger(40), Door("writer", collection.port), random.Random(3)
    kinds = {kind.name: kind for kind in Requests(door, ledger, samples).kinds()}
    for name in ("add vectors", "add vectors", "replace rows", "delete by filter", "feedback", "search by vector"):
        sent = kinds[name].send(draw)
        assert sent
        assert (sent[0].is_good, sent[1]) == (True, ""), sent
    assert judgement.differences(door, ledger, samples, 10) == judgement.lost_feedback(door, ledger) == []
    [first, second] = sorted(ledger.claim(random.Random(0), 2, there=True) + ledger.claim(random.Random(1), 2, there=True))[:2]
    serial, another = ledger.now(first), ledger.now(second)
    changed = samples.row(first, serial) | {"vector": samples.row(second, another)["vector"]}
    collection.ask("POST", f"{COLLECTION}/rows", {"rows": [changed], "on_conflict": "replace"})
    collection.ask("POST", f"{COLLECTION}/delete", {"ids": [second]})
    collection.ask("POST", f"{COLLECTION}/rows", {"rows": [samples.row("r9999", 10_000)]})
    wrong = "\n".join(judgement.differences(door, ledger, samples, 10))
    assert f"{second!r} was lost: expected row {another}" in wrong
    assert "'r9999' is back as row 10000, or was never sent" in wrong
    assert f"{first!r}, row {serial}, has another vector" in wrong
    ledger.feedback.add("never-sent")
    assert "1 of 2 events of feedback were lost: ['never-sent']" in judgement.lost_feedback(door, ledger)[0]


def an_outcome(what: str, *, door: str = "writer", retry_after: str = "5") -> Outcome:
    return Outcome("search", door, what, "", 1.0, 2.0, retry_after)


def test_a_fault_excuses_its_own_errors_alone() -> None:
    named = {fault.name: fault for fault in (*faults.KILLS, *faults.OTHERS)}
    by_text = Kind("search", "writer", frozenset({"triton"}), lambda draw: None)
    by_vector = Kind("search", "writer", frozenset(), lambda draw: None)

    def excused(fault: str, outcome: Outcome, kind: Kind) -> bool:
        return any(excuse.covers(outcome, kind) for excuse in named[fault].excuses)

    assert excused("kill -9: stub", an_outcome("503"), by_text)
    assert not excused("kill -9: stub", an_outcome("503", retry_after=""), by_text)
    assert not excused("kill -9: stub", an_outcome("503"), by_vector)
    assert not excused("kill -9: stub", an_outcome("500"), by_text)
    assert excused("kill -9: writer", an_outcome(NO_ANSWER), by_vector)
    assert not excused("kill -9: reader", an_outcome(NO_ANSWER), by_vector)
    assert not excused("clock jump", an_outcome("503"), by_text)
    assert not any(excuse.covers(an_outcome(WRONG), by_text) for fault in named.values() for excuse in fault.excuses)


def test_a_seed_has_one_order_and_each_kind_comes_once() -> None:
    first, again, other = (next(plan(seed, wanted([], with_long=False))) for seed in (7, 7, 8))
    assert [one.name for one in first] == [one.name for one in again] != [one.name for one in other]
    assert (
        {one.name for one in first}
        == {one.name for one in other}
        == {one.name for one in (*faults.KILLS, *faults.OTHERS) if not one.is_long}
    )
    assert {one.name for one in wanted(["SIGSTOP", "clock"], with_long=False)} > {"clock jump", "SIGSTOP: stub"}


def test_what_was_gone_and_for_how_long() -> None:
    kinds = [Kind(name, "writer", frozenset(), lambda draw: None) for name in ("away", "steady", "lost")]
    load = Load(kinds, 1)
    load.outcomes += [
        Outcome("away", "writer", NO_ANSWER, "", 10.1, 10.2),
        Outcome("steady", "writer", RIGHT, "", 10.1, 10.2),
        Outcome("away", "writer", RIGHT, "", 12.0, 12.5),
        Outcome("lost", "writer", "503", "", 10.1, 10.2),
    ]
    waits = load.waits(0, begun=9.0, mended=10.0, timeout_s=0.3)
    assert waits == {"away (writer)": 2.5, "steady (writer)": 0.0, "lost (writer)": None}


@pytest.mark.parametrize("seed", range(12))
def test_a_file_is_damaged(tmp_path: Path, seed: int) -> None:
    path, content = tmp_path / "part" / "index.faiss", bytes(1000)
    path.parent.mkdir()
    path.write_bytes(content)
    assert damage(tmp_path, random.Random(seed)) == "index.faiss"
    assert not path.exists() or path.read_bytes() != content
    assert [one.name for one in path.parent.iterdir()] in ([], ["index.faiss"])


def test_nothing_to_damage(tmp_path: Path) -> None:
    assert damage(tmp_path, random.Random(0)) == ""


@pytest.fixture
def relay() -> Iterator[Relay]:
    """One to a server that answers each line with itself."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            while chunk := connection.recv(4096):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if chunk.startswith(b"GET") else chunk)

    def serve() -> None:
        while True:
            try:
                threading.Thread(target=answer, args=[listening.accept()[0]], daemon=True).start()
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    made = Relay(listening.getsockname()[1], 0)
    yield made
    made.close()
    listening.close()


def asked(relay: Relay, timeout_s: float = 10) -> int:
    return int(urllib3.request("GET", f"http://127.0.0.1:{relay.port}/", retries=False, timeout=timeout_s).status)


def test_a_relay_fails_as_it_is_told(relay: Relay) -> None:
    assert asked(relay) == 200
    with relay.failing("refuses"), pytest.raises(urllib3.exceptions.HTTPError):
        asked(relay)
    with relay.failing("silent"), pytest.raises(urllib3.exceptions.ReadTimeoutError):
        asked(relay, 0.2)
    with relay.failing("answers 503"):
        assert {asked(relay) for _ in range(20)} == {200, 503}
    with relay.failing("loses answers"), pytest.raises(urllib3.exceptions.HTTPError):
        [asked(relay) for _ in range(20)]
    start = time.monotonic()
    with relay.failing("slow"):
        assert asked(relay) == 200
    assert time.monotonic() - start > 0.05
    assert asked(relay) == 200


def test_what_is_refused_was_not_sent() -> None:
    answer = Door("nobody", free_ports(1)[0]).ask("GET", "/")
    assert (answer.outcome, answer.was_sent) == (NO_ANSWER, False)


def test_a_server_that_ends_is_started_again(tmp_path: Path) -> None:
    service = Service("server", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    try:
        first = service.pid
        service.process.kill()
        deadline = time.monotonic() + 60
        while service.pid == first and time.monotonic() < deadline:
            time.sleep(RESTART_S / 10)
        assert service.process.is_running()
        assert [(one.service, one.status) for one in service.exits] == [("server", -9)]
    finally:
        service.stop()
    assert service.stop() is None  # again


def test_the_report(tmp_path: Path) -> None:
    waits: dict[str, float | None] = {"search by text (writer)": 4.0, "search by vector (writer)": 0.0}
    gone = Rehearsed("kill -9: stub", 10.0, 10.0, 14.0, waits, {"503": 3}, 0.5, [])
    again = Rehearsed("kill -9: stub", 20.0, 20.0, 28.0, {"search by text (writer)": 8.0}, {"503": 4}, 1.5, ["a row was lost"])
    calm = Rehearsed("clock jump", 30.0, 33.0, 33.0, {"search by text (writer)": 0.0}, {}, 0.0, [])
    outcomes = [Outcome("search by text", "writer", RIGHT, "", n / 4, n / 4 + 0.1) for n in range(160)]
    report = Report(
        7, 60.0, [gone, again, calm], outcomes, {"full disk": "a mount namespace"}, {"faults": 3}, ["a row was lost"]
    )
    report.write(tmp_path)
    page = (tmp_path / "chaos.md").read_text()
    assert "| kill -9: stub | 2 | 6.0 s | 8.0 s | search by text (writer) | 7 | 1.5 s | 1 |" in page
    assert "| clock jump | 1 | 0.0 s | 0.0 s | none failed | 0 |  | 0 |" in page
    assert "full disk (needs a mount namespace)" in page
    assert "- a row was lost" in page
    told = json.loads((tmp_path / "chaos.json").read_text())
    assert (told["seed"], told["wrong"], len(told["faults"])) == (7, ["a row was lost"], 3)
    assert (tmp_path / "chaos.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "earthquake"], "--only 'earthquake' is the beginning of no fault: expected one of kill -9: launcher"),
        (["--halt", "0"], "--halt is 0.0: expected 1 or more"),
        (["--rounds", "0"], "--rounds is 0: expected 1 or more"),
    ],
)
def test_options_that_cannot_be(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["chaos", *options])
    with pytest.raises(SystemExit, match="2"):
        chaos_main.checked(chaos_main.parser())
    assert message in capsys.readouterr().err


def test_errors_come_in_time() -> None:
    assert rehearsal._late([an_outcome("503")], 0.5) == ["search (writer): 503 after 1 s, more than 0"]
