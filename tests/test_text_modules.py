"""Text models of sentence-transformers in their folders, beside the library itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import other_checkpoints
import pytest
import references
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from clip_client.errors import InvalidInput
from clip_export.checkpoints.pickles import Pickles
from clip_export.checkpoints.text_modules import ModularCheckpoint
from clip_export.families.multilingual import text_model

TEXTS = ["a photo of a cat", "", "一只猫的照片", "A Photo of TWO cats, [SEP] and more", "many words " * 100]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_checkpoints.inside_folder(tmp_path_factory.mktemp("modules") / "text")


def embed(checkpoint: ModularCheckpoint) -> np.ndarray:
    """Unit embeddings by the parts that a text tower is made of, each text alone."""
    model = text_model(checkpoint)
    encoder, pool, projection = model.encoder().eval(), model.pool(), model.projection().eval()
    rows = []
    for answer in model.library().texts(TEXTS):
        tokens = torch.from_numpy(answer.given)[None]
        with torch.inference_mode():
            hidden = encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
            rows.append(projection(pool(hidden, torch.ones_like(tokens, dtype=torch.bool)))[0])
    return references.unit(torch.stack(rows))


def test_an_encoder_in_a_folder_is_that_of_the_library(saved: Path) -> None:
    library = SentenceTransformer(str(saved), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(embed(ModularCheckpoint(saved, "it", "")), library, atol=1e-5)


@pytest.mark.parametrize("type", ["sentence_transformers.models.Transformer", "sentence_transformers.base.modules.Transformer"])
@pytest.mark.parametrize("path", ["0_Transformer", "./0_Transformer/", "0_Transformer/."])
def test_names_of_modules_old_and_new(type: str, path: str, saved: Path, tmp_path: Path) -> None:
    modules = json.loads((saved / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([{**modules[0], "type": type, "path": path}, *modules[1:]]))
    first = ModularCheckpoint(tmp_path, "it", "").modules[0]
    assert (first.kind, first.path) == ("Transformer", "0_Transformer")


def test_a_pickled_dense_layer_is_converted(tmp_path: Path) -> None:
    folder = other_checkpoints.inside_folder(tmp_path / "text")
    expected = embed(ModularCheckpoint(folder, "it", ""))
    for place in ("0_Transformer", "2_Dense"):
        torch.save(load_file(folder / place / "model.safetensors"), folder / place / "pytorch_model.bin")
        (folder / place / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"pickle"):
        embed(ModularCheckpoint(folder, "it", ""))
    view = Pickles(tmp_path / "converted").unpickled(folder)
    np.testing.assert_allclose(embed(ModularCheckpoint(view, "it", "")), expected, atol=1e-6)


@pytest.mark.parametrize(
    "modules",
    [[], [{"type": "mine.Transformer", "path": ""}], [{"type": "sentence_transformers.models.Transformer", "path": "../x"}]],
)
def test_modules_that_are_none_of_the_librarys(modules: list, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InvalidInput, match=r"modules\.json has (nothing|mine\.Transformer, which is code|the entry)"):
        _ = ModularCheckpoint(tmp_path, "it", "").encoder
