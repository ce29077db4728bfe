"""Options from the command line, the environment and a file: which goes first, and what is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from clip_client import InvalidInput, cli
from clip_client.argument_types import count, port, ports
from clip_client.settings import Formatter, Repeated, Switch, add_settings
from clip_export import options
from clip_search.cli import serve
from clip_search.cli.parser import parser
from clip_search.options import Options


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of whoever runs the tests say nothing here."""
    for name in [name for name in os.environ if name.startswith("CLIPSERVE_")]:
        monkeypatch.delenv(name)


def parser_of(*argv: str) -> ArgumentParser:
    parser = ArgumentParser("clipserve search serve", formatter_class=Formatter)
    parser.add_argument("--data", default="here")
    parser.add_argument("--port", type=port, default=1, metavar="PORT", help="TCP port")
    parser.add_argument("--exact-rows", type=count, default=5, help="rows")
    parser.add_argument("--engine", choices=("faiss", "lancedb"), default="faiss")
    parser.add_argument("--token-file", type=Path, help="token")
    parser.add_argument("--images", type=Path, action=Repeated, default=[])
    parser.add_argument("--allow-port", type=ports, action=Repeated, default=[], help="ports")
    parser.add_argument("--verbose", action=Switch, help="say more")
    add_settings(parser, "search", argv)
    return parser


def taken(*argv: str) -> Namespace:
    return parser_of(*argv).parse_args(argv)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with most kinds of values."""
    path = tmp_path / "clipserve.toml"
    lines = ['data = "of the file"', "port = 2", 'exact_rows = "7"', 'images = ["/a", "/b,c"]', "allow_port = 8080"]
    path.write_text("\n".join(["[search]", *lines, "[serve]", "x = 1"]))
    return path


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken().port == 1
    assert taken("--config", str(file)).port == 2
    monkeypatch.setenv("CLIPSERVE_SEARCH_PORT", "3")
    assert taken("--config", str(file)).port == 3
    assert taken("--port", "4", f"--config={file}").port == 4
    assert taken("--config", str(file)).data == "of the file"


def test_values_of_the_file_are_as_those_of_the_command_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSERVE_CONFIG", str(file))
    options = taken()
    assert (options.config, options.exact_rows, options.images) == (file, 7, [Path("/a"), Path("/b,c")])
    assert options.allow_port == [range(8080, 8081)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a", ["/a"]), ('["/a", "/b:c"]', ["/a", "/b:c"]), ("[]", []), ("", ["/a", "/b,c"]), ("/a,b", ["/a,b"])],
)
def test_several_values_in_a_variable_are_json(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CLIPSERVE_SEARCH_IMAGES", text)
    assert taken("--config", str(file)).images == [Path(path) for path in expected]


def test_a_repeated_flag_takes_the_place_of_all_other_values(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSERVE_SEARCH_IMAGES", "/variable")
    assert taken("--config", str(file), "--images", "/x", "--images", "/y").images == [Path("/x"), Path("/y")]
    assert taken("--images", "/z").images == [Path("/z")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[search]\nprot = 1", r"f\.toml:2: \[search\] has no option prot: did you mean port\?"),
        ("[search]\nexact-rows = 1", r"has no option exact-rows: did you mean exact_rows\?"),
        ('[search]\ntoken = "s3cret"', r"has no option token: did you mean token_file\?"),
        ("[search]\nconfig = 1", "has no option config: expected one of|has no option config: did you mean"),
        ("[search]\nversion = true", "has no option version"),
        ('[search]\nverbose = "perhaps"', r"f\.toml:2: verbose in \[search\] is 'perhaps': expected true or false"),
        ("[search]\nverbose = 1", "expected true or false, got int"),
        ("[search.index]\nengine = 1", "has no option index"),
        ("port = 1", r"f\.toml:1: port isn't known outside of a table: put it below \[search\]"),
        ("search = 1", "search isn't known outside of a table"),
        ("[serach]\nport = 1", r"f\.toml:1: no command has the table \[serach\]: did you mean search\?"),
        (
            "[search]\nport = 70000",
            r"f\.toml:2: port in \[search\] is '70000': 70000 isn't between 1 and 65535; --port PORT: TCP port \(default: 1\)$",
        ),
        ("[search]\nport = 1.5", "is '1.5': invalid port value"),
        ("[search]\nport = true", "is 'True': expected str or int or float, got bool"),
        ("[search]\nport = [1, 2]", "expected str or int or float, got list"),
        ("[search]\nport = 2024-05-01", "got date"),
        ("[search]\ndata = 5", "expected str, got int"),
        ("[search]\nimages = [[1]]", "expected str, got list"),
        ("[search]\nimages = {a = 1}", "expected str, got dict"),
        ('[search]\nengine = "fais"', "invalid choice: 'fais'"),
        ("[search\nport = 1", r"f\.toml can't be read .*: expected TOML"),
        ("[search]\nport = 1\nport = 2", "can't be read .*: expected TOML"),
        ("x = " + "[" * 50_000, "can't be read"),
        ("x = " + "9" * 5_000, "can't be read"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "f.toml").write_text(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        taken("--config", str(tmp_path / "f.toml"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("none.toml", "isn't a file: name a TOML file in --config"), (".", "isn't a file")]
)
def test_a_file_that_isnt_there_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        taken("--config", str(tmp_path / name))


def test_a_file_that_isnt_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_bytes(b"\xff\xfe[\x00")
    with pytest.raises(InvalidInput, match=r"f\.toml can't be read"):
        taken("--config", str(tmp_path / "f.toml"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "CLIPSERVE_SEARCH_PORT",
            "x",
            r"CLIPSERVE_SEARCH_PORT is 'x': invalid port value: 'x'; --port PORT: TCP port \(default: 1\)$",
        ),
        ("CLIPSERVE_SEARCH_ALLOW_PORT", "[80, [1]]", "CLIPSERVE_SEARCH_ALLOW_PORT is .*got list"),
        ("CLIPSERVE_SEARCH_IMAGES", "[/a, /b]", "CLIPSERVE_SEARCH_IMAGES is '\\[/a, /b\\]': Expecting value"),
        ("CLIPSERVE_SEARCH_IMAGES", "[" * 50_000, "CLIPSERVE_SEARCH_IMAGES is"),
        ("CLIPSERVE_SEARCH_PROT", "s3cret", r"variable CLIPSERVE_SEARCH_PROT: did you mean CLIPSERVE_SEARCH_PORT\?, or unset"),
        ("CLIPSERVE_SEARCH_TOKENS", "s3cret", "did you mean CLIPSERVE_SEARCH_TOKEN_FILE"),
        ("CLIPSERVE_SEARCH_VERSION", "s3cret", "variable CLIPSERVE_SEARCH_VERSION"),
        ("CLIPSERVE_SEARCH_VERBOSE", "maybe", "CLIPSERVE_SEARCH_VERBOSE is 'maybe': expected true or false"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=message) as caught:
        taken()
    assert "s3cret" not in str(caught.value)


def test_the_sidecar_asks_for_the_token_that_its_clients_send(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPSERVE_SEARCH_TOKEN", "s3cret")
    assert serve.parsed(parser(["serve"]).parse_args(["serve"])).http.token == "s3cret"
    (tmp_path / "token").write_text("other")
    argv = ["serve", "--token-file", str(tmp_path / "token")]
    http = serve.parsed(parser(argv).parse_args(argv)).http
    assert (http.token, http.token_file) == ("", tmp_path / "token")


def test_clients_of_commands_go_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSERVE_URL", "https://search.example.org")
    assert parser(["list"]).parse_args(["list"]).url == "https://search.example.org"
    assert parser(["list"]).parse_args(["list", "--url", "http://localhost:1"]).url == "http://localhost:1"


def test_a_variable_without_the_commands_name_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPSERVE_DATA", "s3cret")
    monkeypatch.setenv("CLIPSERVE_SERVE_THREADS", "of another command")
    monkeypatch.setenv("CLIPSERVE_UNRELATED", "of somebody else")
    assert taken().data == "here"
    told = capsys.readouterr().err
    assert told == "warning: the variable CLIPSERVE_DATA sets nothing: did you mean CLIPSERVE_SEARCH_DATA?\n"


def test_what_kubernetes_says_of_a_service_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "tcp://10.0.0.1:1234"
    for prefix in ("CLIPSERVE", "CLIPSERVE_SEARCH", "CLIPSERVE_SEARCH_B"):
        for ending in ("PORT", "PORT_1234_TCP", "PORT_1234_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP"):
            monkeypatch.setenv(f"{prefix}_{ending}", address)
    assert taken().port == 1
    assert capsys.readouterr().err == ""


def test_help_shows_the_default_that_holds_and_its_place(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "100%").write_text("s3cret")
    monkeypatch.setenv("CLIPSERVE_SEARCH_TOKEN_FILE", str(tmp_path / "100%"))
    monkeypatch.setenv("CLIPSERVE_SEARCH_EXACT_ROWS", "9")
    monkeypatch.setenv("COLUMNS", "500")
    told = parser_of("--config", str(file)).format_help()
    assert "rows; set by CLIPSERVE_SEARCH_EXACT_ROWS (default: 9)" in told
    assert f"ports; set by {file}:6 (default: " in told
    assert f"token; set by CLIPSERVE_SEARCH_TOKEN_FILE (default: {tmp_path}/100%)" in told
    assert "say more\n" in told
    assert "s3cret" not in told


def test_defaults_of_the_sidecar_are_those_of_its_options() -> None:
    arguments = parser(["serve"]).parse_args(["serve"])
    assert serve.parsed(arguments) == Options("search-data")


def test_without_settings_nothing_is_imported_for_them() -> None:
    code = "import sys; from clip_search.cli.parser import parser; parser(['serve']); print('pydantic' in sys.modules)"
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert told == "False\n"


def test_the_command_tells_of_settings_that_are_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIPSERVE_SEARCH_RECALL", "1.5")
    assert cli.main(["search", "serve", "--help"]) == 1
    assert capsys.readouterr().err == (
        "error: CLIPSERVE_SEARCH_RECALL is '1.5': the recall target is 1.5: expected above 0, at most 1; "
        "--recall SHARE: of the true nearest 10, to be found by text queries (default: 0.98)\n"
    )


def test_options_of_the_export_come_from_the_same_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clipserve.toml"
    file.write_text('[export]\nname = "pets"\nmax_loss = 2\nartifacts = "built"\n[serve]\nthreads = 2\n')
    monkeypatch.setenv("CLIPSERVE_CONFIG", str(file))
    monkeypatch.setenv("CLIPSERVE_EXPORT_MAX_LOSS", "3.5")
    monkeypatch.setenv("CLIPSERVE_EXPORT_IMAGE_VARIANT", "openvino-fp16")
    taken = options.parsed(["--artifacts", "here"])
    assert (taken.name, taken.allowed.lost_points, taken.artifacts) == ("pets", 3.5, Path("here"))
    assert taken.chosen["image"].name == "openvino-fp16"
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        options.parsed(["--help"])
    assert f"(default: pets); set by {file}:2" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv("CLIPSERVE_EXPORT_MODLE", "x")
    with pytest.raises(InvalidInput, match="CLIPSERVE_EXPORT_MODLE: did you mean CLIPSERVE_EXPORT_MODEL"):
        options.parsed([])
