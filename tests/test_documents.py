"""Documents say what is so: their snippets run, and the commands, flags, paths, routes and links that they name exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import figures
import links
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import FLAG, Refused, check, every_flag, flags, verbs
from documents import ROOT, Piece, blocks, code_spans, documents, tracked
from messages import is_quoted_right, quoted, written
from servers import CLIPSERVE, Server
from sidecars import SIZE, Sidecar, unit
from snippets import Command, commands

from clip_client import cli
from clip_client.search import Search
from pictures import jpegs

LANGUAGES = {"mermaid", "python", "sh", "text"}
FOREIGN_FLAGS = {
    "--array", "--cov", "--enable-shared", "--index-url", "--model-id", "--no-binary", "--no-deps", "--profile",
    "--rm", "--user",
}  # fmt: skip
"""Flags in running text that aren't ours: of sbatch, pytest, Python's build, pip, infinity and docker."""
TRITON, SIDECAR = "localhost:8001", "http://localhost:1234"
"""Addresses that the documents have; in the tests they are other ones."""
PACKAGES = ("client", "embed", "export", "search", "serve")
PICTURES = "examples/emoji/pictures"
HELP = ROOT / "docs" / "reference" / "commands.md"
TABLE = "file_name,caption,year,country\na.jpg,a red car,1999,Italy\nsub/b.jpg,children on a beach,2021,Spain\n"
"""Table that the documents' reader has beside the photos."""


@pytest.fixture
def folder(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a reader of the documents would be in: with a few pictures of their own, of the bundled, and models."""
    for name, content in zip(("cat.jpg", "a.jpg", "b.jpg", "photos/a.jpg", "photos/sub/b.jpg"), jpegs(5), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "photos" / "metadata.csv").write_text(TABLE)
    (tmp_path / "token").write_text("not asked for")
    (tmp_path / repository.name).symlink_to(repository)
    bundled = tmp_path / PICTURES
    bundled.mkdir(parents=True)
    captions = pq.read_table(ROOT / PICTURES / "captions.parquet").slice(0, 5)
    pq.write_table(captions, bundled / "captions.parquet")
    for name in captions["file_name"].to_pylist():
        shutil.copy(ROOT / PICTURES / name, bundled)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def embeddings(folder: Path) -> Path:
    """Embeddings as clip-retrieval writes them."""
    made = folder / "embeddings"
    (made / "img_emb").mkdir(parents=True)
    (made / "metadata").mkdir()
    np.save(made / "img_emb" / "img_emb_0.npy", unit(3, SIZE).astype(np.float16))
    pq.write_table(pa.table({"image_path": ["a.jpg", "b.jpg", "c.jpg"]}), made / "metadata" / "metadata_0.parquet")
    return made


def add_photos(sidecar: Sidecar) -> None:
    """Do what a reader did before: the photos are in a collection of their own, and in that of ``up``."""
    for collection in ("photos", "default"):
        assert cli.main(["search", "add", "photos", "--collection", collection, "--url", sidecar.url]) == 0


def test_every_block_says_its_language_and_no_command_hides_in_text() -> None:
    assert {block.language for block in blocks()} <= LANGUAGES
    programs = re.compile(r"^(\$ |\.venv/bin/)?(clipserve|python|make|docker|pip|locust|pytest) ", re.M)
    hidden = [str(block) for block in blocks("text") if block.document != HELP and programs.search(block.content)]
    assert hidden == []


def test_commands_are_typed_as_in_a_clone() -> None:
    """Readers of any page may copy any line: one form everywhere. pip alone is that of the reader's own environment."""
    typed = [(str(block), command.words[0]) for block in blocks("sh") for command in commands(block.content)]
    ours = ("clipserve", "python", "locust", "pytest")
    assert [line for line in typed if Path(line[1]).name in ours and not line[1].startswith(".venv/bin/")] == []


@pytest.mark.parametrize("snippet", blocks("python"), ids=str)
def test_python_snippets_run(snippet: Piece, folder: Path, server: Server, sidecar: Sidecar, search: Search) -> None:
    if 'create("photos"' not in snippet.content:
        add_photos(sidecar)
    source = snippet.content.replace(TRITON, server.address).replace(SIDECAR, sidecar.url)
    exec(compile(source, str(snippet), "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.parametrize("snippet", blocks("sh"), ids=str)
def test_command_lines_are_taken_by_their_programs(snippet: Piece) -> None:
    given = commands(snippet.content)
    assert given
    for command in given:
        check(command)


def searches(document: Path) -> list[tuple[str, ...]]:
    """Return the commands of a document that ask a sidecar, in their order, from ``search`` on."""
    lines = [command.words for block in blocks("sh") if block.document == document for command in commands(block.content)]
    asked = [words[1:] for words in lines if Path(words[0]).name == "clipserve" and words[1] == "search"]
    apart = (
        "serve",
        "copy",
        "backup",
        "restore",
        "reembed",
    )  # they ask no sidecar, two places, or two models: in tests of their own
    return [words for words in asked if words[1] not in apart]


@pytest.mark.parametrize("document", [path for path in documents() if searches(path)], ids=lambda path: path.stem)
def test_searches_on_the_command_line_run(
    document: Path, folder: Path, embeddings: Path, sidecar: Sidecar, search: Search
) -> None:
    add_photos(sidecar)
    for words in searches(document):
        assert cli.main([*words, "--url", sidecar.url]) == 0


def small_commands() -> list[tuple[str, ...]]:
    """Return the commands that compare, classify and inform; what stands on standard input isn't there."""
    lines = [command.words[1:] for block in blocks("sh") for command in commands(block.content) if len(command.words) > 1]
    return sorted({words for words in lines if words[0] in ("compare", "classify", "info") and "-" not in words})


@pytest.mark.parametrize("words", small_commands(), ids=" ".join)
def test_small_commands_run(words: tuple[str, ...], folder: Path, server: Server) -> None:
    (folder / "labels.txt").write_text("cat\ndog\n")
    where = [] if "--local" in words else ["--address", server.address]
    assert cli.main([*words, *where]) == 0


def test_programs_of_the_system_run(folder: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.content.splitlines() if line.startswith(("openssl ", "chmod "))]
    assert lines
    for line in lines:
        subprocess.run(line, shell=True, cwd=folder, check=True)


@pytest.mark.parametrize(
    "line",
    [
        "clipserve exprot",
        "clipserve export --modle x",
        "clipserve search delete --collection photos",
        "clipserve search query",
        "clipserve serve --grpc-port high",
        "python export/all.py --evaluate FOLDER",
        "python export/none.py",
        "python bench/all.py --nothing",
        "make demonstration",
        "make test ARGS=tests/test_none.py",
        "make check ARGS=tests/test_documents.py",
        "make load ARGS=--uesrs",
        "make load ARGS=ImagesUser",
        "pytest --nothing",
        "CLIPSERVE_NOTHING=1 pytest",
        "docker compose up tritn",
        "docker compose --profile tpu up triton",
        "docker compose run --rm export --modle x",
        "pip install 'clipserve[searching]'",
        "pip install --nothing clipserve",
        "clipserver search",
    ],
)
def test_a_wrong_command_line_is_refused(line: str) -> None:
    with pytest.raises(Refused):
        check(commands(line)[0])


def usages() -> list[Piece]:
    return [block for block in blocks("text") if block.content.startswith("usage: ") and block.document != HELP]


@pytest.mark.parametrize("usage", usages(), ids=str)
def test_a_usage_has_the_flags_of_its_command_and_no_others(usage: Piece) -> None:
    words = re.match(r"usage: clipserve ((?:\w+ )*)", usage.content)[1].split()
    assert set(FLAG.findall(usage.content)) == flags([CLIPSERVE, *words])


def test_flags_in_the_text_exist() -> None:
    known = every_flag() | FOREIGN_FLAGS
    unknown = {
        f"{span} {flag}"
        for span in code_spans()
        for flag in re.findall(r"(?<!\S)--[a-z][\w-]*", span.content)
        if flag not in known and not re.match(r"(\.venv/bin/)?python (examples|bench|\.ci)/", span.content)
    }
    assert unknown == set()


def test_commands_in_the_text_exist() -> None:
    for span in code_spans():
        if words := re.match(r"(?:\.venv/bin/)?clipserve (\w+)(?: ([\w-]+))?", span.content):
            verb = [words[2]] if words[1] == "search" and words[2] else []
            check(Command({}, ("clipserve", words[1], *verb, "--help")))
        if target := re.fullmatch(r"make (\w+)", span.content):
            check(Command({}, ("make", target[1])))


def paths_named() -> list[Piece]:
    """Code spans that are paths, or names of Python files, and the paths in drawings."""
    tops = {path.split("/")[0] for path in tracked()} | {path.split("/")[1] for path in tracked(*PACKAGES)}
    drawn = [
        Piece(block.document, block.line, "", path)
        for block in blocks("mermaid")
        for path in re.findall(r"clip_\w+/[\w./]*\w", block.content)
    ]
    spans = [span for span in code_spans() if re.fullmatch(r"[\w.*/-]+", span.content)]
    return [*drawn, *(span for span in spans if span.content.split("/")[0] in tops or span.content.endswith(".py"))]


def is_there(piece: Piece, files: set[str]) -> bool:
    """Tell if a path exists, seen from the repository, a package's parent, or, a file's name alone, from anywhere."""
    parents = [ROOT, *(ROOT / name for name in PACKAGES)]
    if any(list(parent.glob(piece.content.rstrip("/"))) for parent in parents):
        return True
    return any(file.endswith(f"/{piece.content}") for file in files)


def test_paths_in_the_text_exist() -> None:
    files = set(tracked())
    assert [f"{piece}: {piece.content}" for piece in paths_named() if not is_there(piece, files)] == []


def is_read(name: str, sources: str) -> bool:
    """Tell if a variable sets an option of a command, or stands in a source."""
    for words in (["export"], ["serve"], ["search", "serve"]):
        prefix = f"CLIPSERVE_{words[0].upper()}_"
        if name.startswith(prefix):
            option = name.removeprefix(prefix).lower().replace("_", "-")
            if not option or f"--{option}" in flags([CLIPSERVE, *words]):
                return True
    return name in sources


def test_environment_variables_in_the_text_exist() -> None:
    sources = "".join((ROOT / path).read_text(encoding="utf-8") for path in tracked("*.py") if "test_documents" not in path)
    named = {name for span in code_spans() for name in re.findall(r"CLIPSERVE_[A-Z_]+", span.content)}
    assert named
    assert [name for name in sorted(named) if not is_read(name, sources)] == []


def test_links_lead_somewhere() -> None:
    assert [f"{link}: {link.content} {reason}" for link, reason in links.broken_links()] == []


@pytest.mark.parametrize("figure", figures.FIGURES)
def test_a_figure_has_a_source(figure: str) -> None:
    assert re.fullmatch(r"[\d,]*\d(\.\d+)?", figures.figure(figure))


def test_figures_are_those_of_the_measurements() -> None:
    assert [line for path in documents() for line in figures.update(path, check=True)] == []


def test_no_ratio_of_the_readme_stands_without_its_source() -> None:
    table = re.search(r"^## How fast\n(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)[1]
    ratios = [row.split("|")[-2] for row in table.splitlines() if row.startswith("|")][2:]
    assert ratios
    assert [ratio for ratio in ratios if not figures.marks(ratio)] == []


def test_messages_that_are_explained_are_those_of_the_sources() -> None:
    assert len(quoted()) > 30
    texts = written()
    assert [quote for quote in quoted() if not is_quoted_right(quote, texts)] == []
    assert not is_quoted_right("no model repositories …: …", texts)


def test_every_command_is_in_the_reference() -> None:
    page = HELP.read_text(encoding="utf-8")
    for words in verbs():
        assert f"## clipserve {' '.join(words)}\n" in page


def test_the_routes_in_the_text_are_those_of_the_api(sidecar: Sidecar) -> None:
    _, api = sidecar.ask("GET", "/openapi.json")
    served = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, methods in api["paths"].items()
        for method in methods
        if path.startswith(("/v1/collections", "/v1/queries", "/v1/compare", "/v1/classify", "/clip/"))
    }
    spans = [span.content for span in code_spans() if span.document.name == "search.md"]
    told = [re.fullmatch(r"(GET|POST|DELETE) ([^?]*)(?:\?.*)?", span) for span in spans]
    routes = {f"{found[1]} {found[2].replace('…', '/v1/collections')}" for found in told if found}
    assert {re.sub(r"\b(NAME|ID|ROW)\b", "{}", route) for route in routes} == served


def test_the_first_screen_has_code_commands_and_a_picture() -> None:
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    assert re.search(r"^```python\n.*?^```$", first, re.M | re.S)
    assert re.search(r"^```sh\n.*?\bmake demo\b.*?^```$", first, re.M | re.S)
    assert re.search(r"!\[[^]]+\]\(docs/images/.*?\)", first)


def test_documents_are_found() -> None:
    assert {ROOT / "README.md", ROOT / "docs" / "architecture.md"} <= set(documents())
