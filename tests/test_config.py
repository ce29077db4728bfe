"""``clipserve config``, and the three places that every option can be set in."""

from __future__ import annotations

import json
import os
import re
from argparse import Action, ArgumentParser, Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from clip_client import InvalidInput, cli, settings
from clip_client.commands import config
from clip_client.commands.config import _parser as parser_of
from clip_serve.up import servers
from clip_serve.up.options import Options

COMMAND_LINE_ONLY = {
    "serve": {"help", "version", "install"},
    "search": {"help"},
    "up": {"help", "version"},
}
"""Options that make a command do something else."""
SAMPLES = ("7", "0.5", "10.0.0.0/8", "8080", "http://localhost:9", "debug")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CLIPSERVE_")]:
        monkeypatch.delenv(name)


def sample(parser: ArgumentParser, action: Action) -> str:
    """A value of an option that isn't its default."""
    for text in (*(action.choices or ()), *SAMPLES):
        try:
            value = settings._converted(parser, action, str(text))
        except Exception:
            continue
        if value not in (action.default, None):
            return str(text)
    raise AssertionError(f"no sample for {action.option_strings}")


def taken(table: str, *words: str) -> Namespace:
    return parser_of(table, words).parse_args(words)


@pytest.mark.parametrize("table", ["serve", "search", "up"])
def test_every_option_can_be_set_in_all_three_places(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser, file = parser_of(table, []), tmp_path / "clipserve.toml"
    options, before = settings.options(parser), taken(table)
    others = {action.dest for action in parser._actions if action.option_strings} - {each.dest for each in options.values()}
    assert others == COMMAND_LINE_ONLY[table] | {"config"}
    for key, action in options.items():
        is_switch = isinstance(action, settings.Switch)
        text = str(not action.default).lower() if is_switch else sample(parser, action)
        flag = [action.option_strings[bool(action.default)]] if is_switch else [f"{action.option_strings[0]}={text}"]
        other = "false" if text == "true" else "true" if text == "false" else "wrong, and never looked at"
        file.write_text(f"[{table}]\n{key} = {text if is_switch else json.dumps(text)}\n")
        expected = getattr(taken(table, *flag), action.dest)
        assert expected != getattr(before, action.dest), key
        assert getattr(taken(table, f"--config={file}"), action.dest) == expected, key
        with monkeypatch.context() as patch:
            patch.setenv(settings.variable(table, key), text)
            assert getattr(taken(table), action.dest) == expected, key
            file.write_text(f"[{table}]\n{key} = {json.dumps(other)}\n")
            assert getattr(taken(table, f"--config={file}"), action.dest) == expected, key  # and the file isn't looked at


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, dict[str, object]]]:
    assert cli.main(["config", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clipserve.toml"
    path.write_text(
        "\n".join(
            [
                "# of the search",
                '["search"]  # quoted',
                "body_mb = 5",
                "",
                "images = [",
                '  "/tmp",  # the first',
                '  "/usr",',
                "]",
                'data = """',
                's3://user:hush@bucket/x?sig=hush"""',
                "read_only = true",
                "[serve]",
                "grpc_port = 9001",
                "[up]",
                "open = false",
            ]
        )
    )
    monkeypatch.setenv("CLIPSERVE_CONFIG", str(path))
    return path


def test_config_tells_what_is_in_force_and_where_it_comes_from(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPSERVE_SEARCH_PORT", "9002")
    tables = shown(capsys)
    assert list(tables) == ["up", "export", "serve", "search"]
    search = tables["search"]
    assert search["config"] == {"value": str(file), "from": "CLIPSERVE_CONFIG"}
    assert search["body_mb"] == {"value": 5, "from": f"{file}:3"}
    assert search["images"] == {"value": ["/tmp", "/usr"], "from": f"{file}:5"}
    assert search["data"] == {"value": "s3://bucket/x", "from": f"{file}:9"}
    assert search["read_only"] == {"value": True, "from": f"{file}:11"}
    assert search["port"] == {"value": 9002, "from": "CLIPSERVE_SEARCH_PORT"}
    assert search["exact_rows"] == {"value": 10_000, "from": "default"}
    assert tables["serve"]["grpc_port"] == {"value": 9001, "from": f"{file}:13"}
    assert tables["up"]["open"] == {"value": False, "from": f"{file}:15"}


def test_config_takes_options_as_the_command_would(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "serve", "--port", "1", "--no-read-only", "--allow-port", "80-90"]
    [(name, table)] = shown(capsys, *words).items()
    assert name == "search"
    assert (table["port"], table["read_only"]) == ({"value": 1, "from": "option"}, {"value": False, "from": "option"})
    assert table["allow_port"] == {"value": ["80-90"], "from": "option"}
    assert shown(capsys, "search", "--config", str(file))["search"]["config"]["from"] == "option"


def test_config_shows_no_secret(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CLIPSERVE_SEARCH_TOKEN", "hush")
    monkeypatch.setenv("CLIPSERVE_SEARCH_MILVUS_URI", "http://user:hush@host/?key=hush")
    (file.parent / "token").write_text("hush")
    assert cli.main(["config"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^token +\(hidden\) +CLIPSERVE_SEARCH_TOKEN$", told, re.MULTILINE)
    assert cli.main(["config", "search", "--token-file", str(file.parent / "token")]) == 0
    told += capsys.readouterr().out
    assert "(hidden)" not in told.rpartition("[search]")[2]  # the file's goes first
    assert "hush" not in told


def test_a_wrong_value_isnt_shown_with_its_secret(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[search]\nmilvus_uri = ["http://user:hush@host/?key=hush"]')
    with pytest.raises(InvalidInput, match=r"c\.toml:2: milvus_uri in \[search\] is .*expected str, got list") as caught:
        taken("search", f"--config={tmp_path / 'c.toml'}")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serach"], "serach has no settings: name one of up, export, serve, search serve"),
        (["--port=1"], "--port=1 is nobody's: name the command that it belongs to in front of it"),
    ],
)
def test_config_names_what_it_doesnt_know(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", *words]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_config_checks_every_table_of_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[search]\nport = 1\n[serve]\nthreds = 2\n")
    assert cli.main(["config"]) == 1
    assert f"{file}:4: [serve] has no option threds: did you mean threads?" in capsys.readouterr().err


def test_without_the_package_of_a_command_the_others_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(table: str, words: object) -> ArgumentParser:
        if table == "search":
            raise ModuleNotFoundError("no", name="lancedb")
        return parser_of(table, [])

    monkeypatch.setattr(config, "_parser", missing)
    assert cli.main(["config"]) == 0
    out, err = capsys.readouterr()
    assert "[serve]" in out
    assert "[search]" not in out
    assert "[search] is left out: clipserve search serve needs lancedb" in err
    assert cli.main(["config", "search"]) == 1
    assert "pip install 'clipserve[search]'" in capsys.readouterr().err


def test_the_commands_of_a_run_read_its_file(tmp_path: Path) -> None:
    options = Options(config=tmp_path / "c.toml")
    words = [f"--config={tmp_path / 'c.toml'}"]
    assert [options.settings, Options().settings] == [words, []]
    assert servers._triton(options, [1, 2, 3])[1:2] == words
    assert servers._search(options, SimpleNamespace(name="clip"), [], 1, [2])[2:3] == words
