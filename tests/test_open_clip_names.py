"""open_clip's tags and files: source, architecture and activation of each, without its hub; a few really loaded."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import open_clips
import pytest
import torch
from safetensors.torch import load_file, save_file

from clip_client.errors import InvalidInput, Unavailable
from clip_export import families
from clip_export.checkpoints import hub, open_clip, open_clip_downloads, open_clip_shapes
from clip_export.checkpoints.hub_files import RemoteFile, Repository
from clip_export.checkpoints.pickles import REFUSED, Pickles

TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def library() -> Any:
    return open_clips.library()


@pytest.fixture
def tiny(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model among open_clip's own that is small, and its tags."""
    monkeypatch.setattr(library.factory, "_MODEL_CONFIGS", {**library.factory._MODEL_CONFIGS, "tiny": TINY})
    tags = {
        "quick": {"hf_hub": "org/quick/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "resize_mode": "squash"},
        "file": {"hf_hub": "org/file/pytorch_model.bin"},
        "old": {"url": "", "hf_hub": ""},
    }
    monkeypatch.setitem(library.pretrained._PRETRAINED, "tiny", tags)
    return "tiny"


def weights(library: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.contiguous() for name, tensor in library.create_model("tiny").state_dict().items()}


@pytest.fixture
def hub_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Names of files by repository, in place of the hub; what is fetched lies in the test's folder."""
    files: dict[str, set[str]] = {}

    def repository(name: str, revision: str | None, say: Any) -> Repository:
        return Repository(name, revision or "c" * 40, {file: RemoteFile(file, 1, "") for file in files[name]}, tmp_path / name)

    monkeypatch.setattr(hub, "repository", repository)
    monkeypatch.setattr(hub, "fetched", lambda repository, names, say: repository.storage)
    return files


def test_every_pair_is_found(library: Any, hub_of: dict[str, set[str]]) -> None:
    pairs = library.list_pretrained()
    sources = {}
    for name, tag in pairs:
        known = library.get_pretrained_cfg(name, tag)
        repository, _, file = known["hf_hub"].rpartition("/")
        hub_of[repository] = {"README.md", "model.safetensors", "open_clip_pytorch_model.bin"}
        hub_of[repository] |= {file.replace(".bin", ".safetensors")} if file else {"open_clip_model.safetensors"}
        checkpoint = open_clip.of_tag(name, tag, None, REFUSED)
        sources[name, tag] = (
            checkpoint.weights.parent.relative_to(checkpoint.weights.parents[2]).as_posix(),
            checkpoint.weights.name,
        )
        assert checkpoint.model == name
        assert checkpoint.model in library.list_models()
        assert checkpoint.quick_gelu == bool(known.get("quick_gelu"))
        assert checkpoint.revision == "c" * 40
    assert len(sources) == len(pairs) >= 196
    assert sources["ViT-B-32", "openai"] == ("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors")
    assert sources["ViTamin-S", "datacomp1b"] == ("jienengchen/ViTamin-S", "pytorch_model.safetensors")
    assert sources["roberta-ViT-B-32", "laion2b_s12b_b32k"][0] == "laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k"


@pytest.mark.parametrize(("tag", "files", "file"), [
    ("quick", {"open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"}, "open_clip_pytorch_model.safetensors"),
    ("quick", {"model.safetensors", "open_clip_pytorch_model.bin"}, "open_clip_pytorch_model.bin"),
    ("file", {"open_clip_model.safetensors", "pytorch_model.bin"}, "pytorch_model.bin"),
    ("file", {"pytorch_model.safetensors", "pytorch_model.bin"}, "pytorch_model.safetensors"),
])  # fmt: skip
def test_a_tag_takes_safetensors_then_the_pickle(
    tag: str, files: set[str], file: str, tiny: str, library: Any, hub_of: dict[str, set[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "org" / tag
    folder.mkdir(parents=True)
    hub_of[f"org/{tag}"] = files
    tensors = weights(library)
    (save_file if file.endswith(".safetensors") else torch.save)(tensors, folder / file)
    checkpoint = open_clip.of_tag(tiny, tag, None, Pickles(tmp_path / "converted"))
    assert all(torch.equal(tensors[name], tensor) for name, tensor in load_file(checkpoint.weights).items())
    assert checkpoint.label == f"tiny-{tag}"


def test_a_pickle_is_refused_before_it_is_downloaded(
    tiny: str, hub_of: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(hub, "fetched")
    hub_of["org/file"] = {"pytorch_model.bin"}
    with pytest.raises(InvalidInput, match=r"tiny-file: org/file has none of pytorch_model\.safetensors, .* aren't loaded"):
        open_clip.of_tag(tiny, "file", None, REFUSED)


def test_weights_of_the_other_activation_get_their_own(
    tiny: str, library: Any, hub_of: dict[str, set[str]], tmp_path: Path
) -> None:
    (tmp_path / "org" / "quick").mkdir(parents=True)
    hub_of["org/quick"] = {"open_clip_model.safetensors"}
    save_file(weights(library), tmp_path / "org" / "quick" / "open_clip_model.safetensors")
    checkpoint = open_clip.of_tag(tiny, "quick", None, REFUSED)
    spec = families.of(checkpoint).spec(checkpoint, "it")
    assert (spec.mean, spec.resize_mode) == ((0.1, 0.2, 0.3), "squash")
    expected = library.create_model("tiny", pretrained=str(checkpoint.weights), force_quick_gelu=True)
    other = library.create_model("tiny", pretrained=str(checkpoint.weights))
    tokens = library.get_tokenizer("tiny")(["a photo of a cat"])
    towers = families.of(checkpoint).towers(checkpoint, spec)
    with torch.inference_mode():
        ours = towers.text(tokens.int()).numpy()
        theirs, wrong = (model.eval().encode_text(tokens, normalize=True).numpy() for model in (expected, other))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours - wrong).max() > 1e-4


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
def test_a_file_tells_its_architecture(suffix: str, tiny: str, library: Any, tmp_path: Path) -> None:
    tensors, file = weights(library), tmp_path / f"mine{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, file)
    checkpoint = open_clip.of_file(file, None, Pickles(tmp_path / "converted"))
    assert (checkpoint.model, checkpoint.label, checkpoint.quick_gelu) == ("tiny", "tiny-mine", False)


def test_a_file_of_a_training_tells_its_architecture(tiny: str, library: Any, tmp_path: Path) -> None:
    tensors = {f"module.{name}": tensor for name, tensor in weights(library).items()}
    torch.save({"epoch": 3, "name": "mine", "state_dict": tensors}, tmp_path / "epoch_3.pt")
    assert open_clip.of_file(tmp_path / "epoch_3.pt", None, Pickles(tmp_path / "converted")).model == "tiny"


def test_a_file_that_fits_two_models_names_both(
    tiny: str, library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(library.factory._MODEL_CONFIGS, "tiny-quickgelu", {**TINY, "quick_gelu": True})
    save_file(weights(library), tmp_path / "mine.safetensors")
    with pytest.raises(InvalidInput, match=r"fits 2 of open_clip's models.*: tiny, tiny-quickgelu; pass open_clip:tiny/"):
        open_clip.of_file(tmp_path / "mine.safetensors", None, REFUSED)


def test_a_script_of_openais_has_its_activation(tiny: str, library: Any, tmp_path: Path) -> None:
    model = torch.jit.script(_Scripted(weights(library)))
    model.save(str(tmp_path / "ViT-tiny.pt"))
    library.factory._MODEL_CONFIGS["tiny-quickgelu"] = {**TINY, "quick_gelu": True}
    checkpoint = open_clip.of_file(tmp_path / "ViT-tiny.pt", None, Pickles(tmp_path / "converted"))
    assert (checkpoint.model, checkpoint.quick_gelu) == ("tiny", True)


class _Scripted(torch.nn.Module):
    """A module with a state dict of these names, as a script has it."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            head, _, rest = name.partition(".")
            inner.setdefault(head, {})[rest] = tensor
        for head, parts in inner.items():
            if "" in parts:
                self.register_buffer(head, parts[""])
            else:
                self.add_module(head, _Scripted(parts))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other.weight": torch.ones(2)}, r"tensors such as other\.weight, which fit none of open_clip's models exactly"),
        ({}, "tensors such as none, which fit none"),
    ],
    ids=["another model", "nothing"],
)
def test_a_file_that_fits_no_model(tensors: dict[str, torch.Tensor], message: str, library: Any, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(InvalidInput, match=message):
        open_clip.of_file(tmp_path / "mine.safetensors", None, REFUSED)


@pytest.mark.parametrize("name", ["ViT-S-32", "RN50", "coca_ViT-B-32"])
def test_real_models_have_their_own_shapes(name: str, library: Any, tmp_path: Path) -> None:
    shapes = open_clip_shapes.of_model(name)
    fitting = open_clip_shapes.fitting(shapes)
    assert name in fitting
    assert {other.removesuffix("-quickgelu") for other in fitting} == {name}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of files, and an empty cache."""
    monkeypatch.setattr(open_clip_downloads, "FOLDER", tmp_path / "cache")
    (tmp_path / "site").mkdir()
    handler = partial(_Silent, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def serve(folder: Path, content: bytes) -> str:
    """Put a file on the site under the name that tells its digest; returns its path."""
    name = f"model-{hashlib.sha256(content).hexdigest()[:8]}.pt"
    (folder / "site" / name).write_bytes(content)
    return name


def test_an_address_is_downloaded_once_and_checked(site: str, tmp_path: Path) -> None:
    name = serve(tmp_path, b"weights " * 1000)
    file = open_clip_downloads.downloaded(f"{site}/{name}")
    assert file.read_bytes() == b"weights " * 1000
    (tmp_path / "site" / name).unlink()
    assert open_clip_downloads.downloaded(f"{site}/{name}") == file
    file.write_bytes(b"damaged")
    with pytest.raises(InvalidInput, match=r"has the SHA-256 .*, expected one that begins with .*: remove it, and it is down"):
        open_clip_downloads.downloaded(f"{site}/{name}")


def test_a_tampered_download_is_not_kept(site: str, tmp_path: Path) -> None:
    name = serve(tmp_path, b"weights")
    (tmp_path / "site" / name).write_bytes(b"others'")
    with pytest.raises(InvalidInput, match="it was changed on the way, or at its source; nothing of it is used"):
        open_clip_downloads.downloaded(f"{site}/{name}")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_an_address_that_is_gone(site: str) -> None:
    with pytest.raises(Unavailable, match=r"none-12345678\.pt can't be downloaded .*: download it elsewhere, and put it at"):
        open_clip_downloads.downloaded(f"{site}/none-12345678.pt")


@pytest.mark.parametrize("left", [0, 100, 256 * 50])
def test_a_download_that_was_cut_off_comes_to_its_end(left: int, site: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50
    name = serve(tmp_path, content)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{name}.incomplete").write_bytes(content[:left])
    assert open_clip_downloads.downloaded(f"{site}/{name}").read_bytes() == content


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://openaipublic.azureedge.net/clip/models/{'ab' * 32}/ViT-B-32.pt", "ab" * 32),
        (
            "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/vit_b_32-laion2b_e16-af8dbd0c.pth",
            "af8dbd0c",
        ),
        ("https://dl.fbaipublicfiles.com/MMPT/metaclip/b32_400m.pt", ""),
    ],
)
def test_addresses_tell_a_digest(url: str, expected: str) -> None:
    assert open_clip_downloads.expected_sha256(url) == expected


def test_a_tag_with_an_address_alone(tiny: str, library: Any, site: str, tmp_path: Path) -> None:
    torch.save({"state_dict": weights(library)}, tmp_path / "weights.pt")
    name = serve(tmp_path, (tmp_path / "weights.pt").read_bytes())
    library.pretrained._PRETRAINED["tiny"]["old"] |= {"url": f"{site}/{name}"}
    checkpoint = open_clip.of_tag(tiny, "old", None, Pickles(tmp_path / "converted"))
    assert families.of(checkpoint).spec(checkpoint, "it").embedding_size == 32
    with pytest.raises(InvalidInput, match="--revision main is for checkpoints on the hub"):
        open_clip.of_tag(tiny, "old", "main", Pickles(tmp_path / "converted"))
