"""``clipserve compare``, ``classify`` and ``info``: in pipes and terminals, on a real server and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relays import grpc_relay
from servers import CLIPSERVE, Server
from sidecars import PICTURES
from terminals import run_in_terminal

from clip_client import Clip, InvalidInput, ModelSpec, cli
from clip_client.commands import classify, compare, info, picture_names
from clip_client.prompt_templates import TEMPLATES

TEXTS = ["a cat", "a dog", "two red squares"]
LABELS = ["cat", "dog", "square"]
SECRET = "s3cret-token-of-the-relay"
QUIET = (  # Ctrl-C reaches a command that a shell runs in the background only so
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from clip_client.cli import main; "
    "sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, and two files that look like some."""
    made = tmp_path / "photos"
    (made / "below").mkdir(parents=True)
    for n, name in enumerate(("a.jpg", "b.jpg", "below/c.jpg", "d.jpg")):
        (made / name).write_bytes(PICTURES[n])
    (made / "bad.jpg").write_bytes(b"no picture")
    (made / "empty.png").write_bytes(b"")
    return made


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [str(CLIPSERVE), *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, text=True, **options)


def objects(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


# compare


def test_comparing_gives_what_the_sdk_gives(
    folder: Path, server: Server, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = clip.compare(PICTURES[0], TEXTS)
    assert compare.main([str(folder / "a.jpg"), *TEXTS, "--address", server.address, "--json"]) == 0
    rows = {row["text"]: row for row in objects(capsys.readouterr().out)}
    np.testing.assert_allclose([rows[text]["probability"] for text in TEXTS], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose([rows[text]["cosine"] for text in TEXTS], expected.cosines, atol=1e-5)
    assert compare.main([str(folder / "a.jpg"), *TEXTS, "--address", server.address]) == 0
    printed = capsys.readouterr()
    heading, *lines = [line.split("\t") for line in printed.out.splitlines()]
    assert heading == ["probability", "cosine", "text"]
    best = np.argsort(-expected.cosines, kind="stable")
    assert [line[2] for line in lines] == [TEXTS[n] for n in best]
    assert printed.err == ""


def test_comparing_takes_the_picture_from_a_pipe_and_no_server(folder: Path, repository: Path, clip: Clip) -> None:
    with (folder / "a.jpg").open("rb") as picture:
        ended = run("compare", "-", *TEXTS, "--local", repository, "--json", stdin=picture)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = {row["text"]: row["cosine"] for row in objects(ended.stdout)}
    np.testing.assert_allclose([rows[text] for text in TEXTS], clip.compare(PICTURES[0], TEXTS).cosines, atol=1e-4)


def test_comparing_names_what_is_left_out(folder: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    broken = os.fsdecode(b"caf\xe9")
    assert compare.main([str(folder / "a.jpg"), "a cat", broken, "--address", server.address]) == 1
    printed = capsys.readouterr()
    assert [line.split("\t")[2] for line in printed.out.splitlines()] == ["text", "a cat"]
    assert "left out text 1 (caf\\udce9): the text can't be encoded" in printed.err
    assert printed.err.endswith("read 2 = 1 compared + 1 left out\n")
    with pytest.raises(InvalidInput, match=r"bad\.jpg: "):
        compare.main([str(folder / "bad.jpg"), "a cat", "--address", server.address])
    assert cli.main(["compare", str(folder / "none.jpg"), "a cat", "--address", server.address]) == 1
    assert "none.jpg" in capsys.readouterr().err
    assert cli.main(["compare", str(folder / "a.jpg"), "a cat", "--address", "127.0.0.1:1"]) == 1
    assert "can't be reached" in capsys.readouterr().err


def test_address_and_token_come_from_the_environment_or_the_options(
    folder: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    words = ["compare", str(folder / "a.jpg"), "a cat", "a dog", "--json"]
    with grpc_relay(server, token=SECRET) as address:
        monkeypatch.setenv("CLIPSERVE_ADDRESS", address)
        assert cli.main(words) == 1
        assert "asks for a token" in capsys.readouterr().err
        assert cli.main([*words, "--token-file", str(tmp_path / "token")]) == 0
        monkeypatch.setenv("CLIPSERVE_TOKEN", SECRET)
        assert cli.main(words) == 0
        assert cli.main(["info", "--json"]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])["server"]
        assert (told["address"], told["ready"]) == (address, True)
        monkeypatch.setenv("CLIPSERVE_TOKEN", "another")
        assert cli.main(words) == 1
        assert cli.main(["info"]) == 0
        printed = capsys.readouterr()
        assert "refuses the token" in printed.err
        assert "refuses the token" in printed.out
        assert SECRET not in printed.err + printed.out
        assert "another" not in printed.err + printed.out
    assert cli.main([*words, "--token-file", str(tmp_path / "none")]) == 1
    assert "the token can't be read" in capsys.readouterr().err


# classify


def test_classifying_gives_what_the_sdk_gives(
    folder: Path, server: Server, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--labels", ",".join(LABELS), "--address", server.address, "--json", "--top", "2"]
    assert classify.main([str(folder), *options]) == 1
    printed = capsys.readouterr()
    rows = objects(printed.out)
    names = ["a.jpg", "b.jpg", "below/c.jpg", "d.jpg"]
    assert [row["picture"] for row in rows] == [str(folder / name) for name in names]
    expected = clip.classify(PICTURES[:4], LABELS)
    for row, best in zip(rows, expected.top(2), strict=True):
        assert [label["label"] for label in row["labels"]] == [label for label, _ in best]
        got = [label["probability"] for label in row["labels"]]
        np.testing.assert_allclose(got, [probability for _, probability in best], atol=1e-5)
    assert f"left out {folder / 'bad.jpg'}: " in printed.err
    assert f"left out {folder / 'empty.png'}: the file is empty" in printed.err
    assert printed.err.endswith("read 6 = 4 classified + 2 left out\n")


def test_classifying_without_a_server_and_with_templates(
    folder: Path, repository: Path, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder / "a.jpg"), str(folder / "none.jpg"), "--labels", "cat,dog", "--local", str(repository)]
    assert classify.main([*words, "--templates", "openai-imagenet-7", "--templates", "a {} at night"]) == 1
    printed = capsys.readouterr()
    [heading, line] = [line.split("\t") for line in printed.out.splitlines()]
    assert heading == ["label", "probability", "picture"]
    sentences = [*TEMPLATES["openai-imagenet-7"], "a {} at night"]
    [(label, probability)] = clip.classify(PICTURES[0], ["cat", "dog"], templates=sentences).top(1)
    assert line == [label, f"{probability:.3f}", str(folder / "a.jpg")]
    assert "none.jpg" in printed.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbfcat\r\n\r\ndog \r\n", ""),
        ("caf\u00e9\ncat".encode("utf-16"), ""),
        (b"cat, sleeping\rdog", ""),
        (b"cat,dog,car\n", "holds one line with commas: write one label a line"),
        (b"cat\ndog\n\ncat\n", "lines 1 and 4 are both 'cat'"),
        (b" \n\n", "there are no labels"),
        (b"", "there are no labels"),
        (b"\x00\x01\x02\x03\x04", "is it a text"),
    ],
    ids=["BOM and CRLF", "UTF-16", "commas in lines", "one line", "twice", "empty lines", "empty", "no text"],
)
def test_labels_of_a_file(
    content: bytes, message: str, tmp_path: Path, folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    words = [
        str(folder / "a.jpg"),
        "--labels",
        str(tmp_path / "labels.txt"),
        "--address",
        server.address,
        "--json",
        "--top",
        "9",
    ]
    if not message:
        assert classify.main(words) == 0
        [row] = objects(capsys.readouterr().out)
        assert len(row["labels"]) == 2
        return
    with pytest.raises(SystemExit) as ended:
        classify.main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "cat,,dog"], "label 1 is empty"),
        (["--labels", "cat,dog,cat"], "are both 'cat'"),
        (["--labels", "none.txt"], "no file none.txt"),
        (["--labels", "cat", "--templates", "a photo"], "expected one of openai-imagenet"),
        (["--labels", "cat", "--templates", "a {} of {x}"], "other braces"),
        (["--labels", "cat", "--top", "0"], "0 is below 1"),
        (["--labels", "cat", "--local", "x", "--address", "y:1"], "not allowed with"),
        ([], "--labels"),
    ],
)
def test_a_wrong_usage_is_told_before_anything_is_asked(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        classify.main(["a.jpg", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_list_on_standard_input(folder: Path, server: Server) -> None:
    odd = [folder / "two\nlines.jpg", folder / os.fsdecode(b"caf\xe9.jpg")]
    for path in odd:
        path.write_bytes(PICTURES[5])
    words = ["classify", "-", "--labels", "cat,dog", "--address", server.address, "--json"]
    listed = b"\0".join(os.fsencode(path) for path in [*odd, folder / "below"])
    ended = subprocess.run([CLIPSERVE, *words, "-0"], input=listed, capture_output=True, timeout=120, check=False)
    names = [row["picture"] for row in objects(ended.stdout.decode())]
    assert (ended.returncode, names) == (0, [*map(str, odd), str(folder / "below" / "c.jpg")])
    lines = b"%b\r\n\n%b\nnone.jpg" % (os.fsencode(folder / "a.jpg"), os.fsencode(odd[1]))
    ended = subprocess.run([CLIPSERVE, *words], input=lines, capture_output=True, timeout=120, check=False)
    names = [row["picture"] for row in objects(ended.stdout.decode())]
    assert (ended.returncode, names) == (1, [str(folder / "a.jpg"), str(odd[1])])
    assert b"left out none.jpg: " in ended.stderr
    assert ended.stderr.endswith(b"read 3 = 2 classified + 1 left out\n")


NOT_A_LIST = (
    "standard input",
    "isn't a list of names, one a line, since a NUL stands in it: pass --null if each name ends with one",
)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"\xef\xbb\xbfa.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        ("\u00e9.jpg\r\nb.jpg\r\n".encode("utf-16"), ["\u00e9.jpg", "b.jpg"]),
        (b"\xe9.jpg\n", ["\udce9.jpg"]),
        (b"file:///tmp/a%0Ab.jpg\n", ["/tmp/a\nb.jpg"]),
        (b"", []),
        (b"\xff", ["\udcff"]),
        (b"a.jpg\nb.jpg\0c.jpg\0", ["a.jpg", NOT_A_LIST]),
        (PICTURES[0], [NOT_A_LIST]),
        (b"x" * 2**21, [("standard input", "isn't a list of names, one a line: for a picture itself, use clipserve compare")]),
    ],
    ids=["BOM and CRLF", "UTF-16", "Latin-1", "URI", "nothing", "a byte", "NULs", "a picture", "a long line"],
)
def test_lists_of_other_programs(content: bytes, names: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_bytes(content)
    with (tmp_path / "list").open() as listed:
        monkeypatch.setattr(sys, "stdin", listed)
        got = list(picture_names.picture_names(["-"], print, null=False))
    assert [(name, reason[: len(NOT_A_LIST[1])]) for name, reason in got] == [
        name if isinstance(name, tuple) else (name, "") for name in names
    ]


def test_names_that_end_with_a_nul_are_no_text_with_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["\ufeffa.jpg", "b\n.jpg", "\udcff\udcfec.jpg"]
    for first in (0, 2):
        wanted = names[first:] + names[:first]
        (tmp_path / "list").write_bytes(b"".join(os.fsencode(name) + b"\0" for name in wanted))
        with (tmp_path / "list").open() as listed:
            monkeypatch.setattr(sys, "stdin", listed)
            assert list(picture_names.picture_names(["-"], print, null=True)) == [(name, "") for name in wanted]


@pytest.mark.parametrize("pieces", [(b"\xef\xbb\xbf", b"a.jpg\n"), (b"\xff", b"\xfea\0.", b"\0j\0p\0g\0\n\0"), (b"a.", b"jpg")])
def test_a_list_may_come_in_pieces(pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(writing)  # whatever is read from it
    with os.fdopen(reading) as listed:
        monkeypatch.setattr(sys, "stdin", listed)
        came = iter([*pieces, b""])
        monkeypatch.setattr(picture_names.os, "read", lambda *_: next(came))
        [(name, reason)] = picture_names.picture_names(["-"], print, null=False)
    assert (name, reason) == ("a.jpg", "")


def test_a_closed_standard_input_and_names_of_nothing_are_items_of_their_own(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    (folder / "again.jpg").symlink_to("a.jpg")
    (tmp_path / "empty").mkdir()
    told: list[str] = []
    got = dict(picture_names.picture_names(["-", "", str(tmp_path / "empty"), str(folder)], told.append, null=False))
    assert got["standard input"] == "is closed: name the picture, or pipe it in"
    assert got["''"].startswith("the name is empty")
    assert got[str(tmp_path / "empty")].startswith("no pictures in it: expected files that end in .jpg")
    assert (got[str(folder / "a.jpg")], len(got)) == ("", 9)
    assert told == [f"{folder}: 1 link passed over to what is there already"]


def test_what_is_left_out_is_written_to_a_file(
    folder: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = folder / os.fsdecode(b"caf\xe9.jpg")
    odd.write_bytes(b"no picture")
    words = [str(folder), "--labels", "cat,dog", "--address", server.address, "--errors"]
    assert classify.main([*words, str(tmp_path / "errors.jsonl")]) == 1
    entries = objects((tmp_path / "errors.jsonl").read_text())
    assert {entry["item"] for entry in entries} == {str(folder / "bad.jpg"), str(folder / "empty.png"), str(odd)}
    assert all(entry["reason"] for entry in entries)
    assert "read 7 = 4 classified + 3 left out" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match=r"the errors can't be written to .*: name another file"):
        classify.main([*words, str(tmp_path / "none" / "errors.jsonl")])


def test_a_name_that_nothing_is_served_under_is_no_fault_of_the_picture(
    folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", str(folder / "a.jpg"), "a cat", "--address", server.address, "--name", "none"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {server.address} serves no model none_image")


def test_a_terminal_gets_columns(folder: Path, server: Server) -> None:
    strange = folder / "\x1b[31mred.jpg"
    strange.write_bytes(PICTURES[0])
    words = ["classify", strange, "--labels", "cat,dog", "--address", server.address]
    status, shown = run_in_terminal([CLIPSERVE, *words], columns=200)
    assert status == 0
    assert "\x1b[31m" not in shown
    assert "\\x1b[31mred.jpg" in shown
    heading = next(line for line in shown.splitlines() if line.startswith("label"))
    assert heading.split() == ["label", "probability", "picture"]


def test_a_reader_that_goes_away_ends_it_silently(folder: Path, repository: Path) -> None:
    words = ["classify", *[str(folder / "a.jpg")] * 400, "--labels", "cat,dog", "--local", str(repository)]
    process = subprocess.Popen([CLIPSERVE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith(b"label")
    process.stdout.close()
    assert (process.wait(120), process.stderr.read()) == (141, b"")
    process.stderr.close()


def test_ctrl_c_is_quiet(folder: Path, repository: Path) -> None:
    words = ["classify", "-", "--labels", "cat,dog", "--local", str(repository)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", QUIET, *words], **pipes)  # type: ignore[call-overload]
    for name in ("a.jpg", "b.jpg"):
        process.stdin.write(os.fsencode(folder / name) + b"\n")
        process.stdin.flush()  # and it waits for more, once what there is has come out
        shown = [process.stdout.readline() for _ in range(2 if name == "a.jpg" else 1)]  # below a heading
        assert name in shown[-1].decode()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, b"")


# info


def test_info_of_a_server_and_a_repository(
    server: Server, repository: Path, spec: ModelSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--address", server.address, "--repository", str(repository)]
    assert info.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["installed"]["extras"]["local"] == []
    assert told["engines"]["ONNX Runtime"]["devices"][-1] == "CPU"
    assert any(device.startswith("CPU") for device in told["engines"]["OpenVINO"]["devices"])
    assert (told["server"]["ready"], told["server"]["reason"], told["server"]["models"]) == (True, "", {})
    assert told["server"]["server"] == "triton"
    checkpoint = {"checkpoint": spec.checkpoint, "fingerprint": spec.fingerprint}
    assert checkpoint.items() <= told["server"].items()
    assert checkpoint.items() <= told["repository"]["published"]["clip"].items()
    assert told["server"]["variants"]["image"].startswith("onnxruntime")
    assert info.main(words) == 0
    lines = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert lines["server"] == f"{server.address} is ready"
    assert spec.fingerprint in lines["checkpoint"]
    assert "items a request" in lines["limits"]


def test_info_names_what_is_down_and_tells_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main(["--address", "127.0.0.1:1", "--repository", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr().out
    assert "127.0.0.1:1 is down: " in shown
    assert f"{tmp_path / 'none'}: there is no such folder" in shown
    (tmp_path / "clip_image").mkdir()
    assert info.main(["--address", "nonsense", "--repository", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "nonsense" in told["server"]["reason"]
    assert "is empty" in told["repository"]["published"]["clip"]["reason"]


def test_info_of_a_name_that_is_not_served(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main(["--address", server.address, "--name", "siglip", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["server"]
    assert (told["live"], told["ready"]) == (True, False)
    assert "siglip_image" in told["reason"]
