"""Image towers that join tokens: what they compute, beside the paper's own algorithm; which towers, who may publish them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipVisionConfig, SiglipVisionModel

from clip_client import ModelSpec
from clip_export import cli
from clip_export.towers.image_tower import ImageTower, PooledProjection
from clip_export.towers.merged_image_tower import CannotMergeError, merge_tokens
from clip_export.towers.merged_layers import TransformersLayer
from clip_export.towers.merged_tokens import ProportionalAttention, TokenMerging
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import first
from clip_export.variants.openvino_int8_merged import OpenVinoInt8Merged

Floats = npt.NDArray[np.float64]
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
PATCHES = {"image_size": 224, "patch_size": 32}


@pytest.fixture(scope="module", name="spec")
def _spec() -> ModelSpec:
    """Square pictures of 224 pixels; nothing is exported for it."""
    return ModelSpec(
        name="clip",
        checkpoint="random",
        revision="",
        family="clip",
        image_size=224,
        resize_mode="squash",
        resize_size=224,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        context_length=77,
        padding="trailing",
        pad_token=0,
        end_token=1,
        embedding_size=16,
        logit_scale=100.0,
        logit_bias=0.0,
        activation="softmax",
        weights_sha256="",
        tokenizer_sha256="",
    )


def merged_one_by_one(keys: Floats, hidden: Floats, sizes: Floats, count: int, protected: bool) -> tuple[Floats, Floats]:
    """Bipartite soft matching of one picture, written from the paper's appendix D: [L, …] -> [L - count, …]."""
    unit = [key / math.sqrt((key**2).sum()) for key in keys]
    sources, targets = list(range(0, len(keys), 2)), list(range(1, len(keys), 2))
    edges = []
    for source in sources:
        if protected and source == 0:
            continue
        cosine, target = max((float(unit[source] @ unit[target]), target) for target in targets)
        edges.append((cosine, source, target))
    joined = {source: target for _, source, target in sorted(edges, reverse=True)[:count]}
    sums = {place: hidden[place] * sizes[place] for place in range(len(keys))}
    grown = {place: float(sizes[place]) for place in range(len(keys))}
    for source, target in joined.items():
        sums[target] = sums[target] + sums[source]
        grown[target] += grown[source]
    order = [source for source in sources if source not in joined] + targets
    return np.stack([sums[place] / grown[place] for place in order]), np.array([grown[place] for place in order])


def tower(model: Any, projection: nn.Module, spec: ModelSpec) -> ImageTower:
    return ImageTower(PooledProjection(model, projection), spec).eval()


def clip_model(**shape: Any) -> Any:
    torch.manual_seed(0)
    config = CLIPVisionConfig(**{**SHAPE, **PATCHES, **shape}, projection_dim=16, attn_implementation="eager")
    model = CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3.0)  # otherwise attention is even, and all embeddings are alike
    return model


def clip_tower(spec: ModelSpec, model: Any = None) -> ImageTower:
    model = model or clip_model()
    read_one(model.vision_model.encoder, first)
    return tower(model.vision_model, model.visual_projection, spec)


def siglip_tower(spec: ModelSpec) -> ImageTower:
    torch.manual_seed(0)
    model = SiglipVisionModel(SiglipVisionConfig(**SHAPE, **PATCHES, attn_implementation="eager")).eval()
    return tower(model, nn.Identity(), spec)


def pixels(spec: ModelSpec, count: int = 3) -> torch.Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 7, 7, 3)).repeat(32, 1).repeat(32, 2)
    assert spec.image_size == drawn.shape[1]
    return torch.from_numpy(drawn.astype(np.uint8))


def attention_one_by_one(layer: Any, normed: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Return attention [L, W] that counts each token by its size, and keys [L, W / H], mean over the heads."""
    attention = layer.self_attn

    def linear(part: nn.Linear, rows: Floats) -> Floats:
        return np.asarray(rows @ part.weight.double().numpy().T + part.bias.double().numpy())

    query, key, value = (linear(part, normed) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    width = attention.head_dim
    mixed, heads = [], [slice(n, n + width) for n in range(0, query.shape[1], width)]
    for head in heads:
        weights = np.exp(query[:, head] @ key[:, head].T / math.sqrt(width)) * sizes[None]
        mixed.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, head])
    return linear(attention.out_proj, np.concatenate(mixed, axis=1)), np.mean([key[:, head] for head in heads], axis=0)


def encoded_one_by_one(model: Any, normalised: torch.Tensor, count: int) -> Floats:
    """Return the embeddings of a CLIP whose layers join ``count`` tokens each, computed one picture at a time."""
    vision, rows = model.vision_model.double(), []
    for picture in normalised.double():
        hidden = vision.pre_layrnorm(vision.embeddings(picture[None]))[0].numpy()
        sizes = np.ones(len(hidden))
        for layer in vision.encoder.layers:
            attended, keys = attention_one_by_one(layer, layer.layer_norm1(torch.from_numpy(hidden)).numpy(), sizes)
            hidden = hidden + attended
            hidden, sizes = merged_one_by_one(keys, hidden, sizes, min(count, (len(hidden) - 1) // 2), True)
            hidden = hidden + layer.mlp(layer.layer_norm2(torch.from_numpy(hidden))).numpy()
        read = model.visual_projection.double()(vision.post_layernorm(torch.from_numpy(hidden[:1])))[0].numpy()
        rows.append(read / np.linalg.norm(read))
    return np.stack(rows)


@pytest.mark.parametrize(("length", "count", "protected"), [(50, 8, True), (49, 24, False), (17, 8, True), (6, 1, False)])
def test_tokens_are_joined_as_in_the_paper(length: int, count: int, protected: bool) -> None:
    draw = np.random.default_rng(length)
    keys, hidden = draw.normal(size=(3, length, 8)), draw.normal(size=(3, length, 12))
    sizes = draw.integers(1, 5, (3, length)).astype(np.float64)
    tensors = [torch.from_numpy(part) for part in (keys, hidden, sizes[..., None])]
    rows, grown = TokenMerging(count, protected=protected)(*tensors)
    for n in range(3):
        expected, expected_sizes = merged_one_by_one(keys[n], hidden[n], sizes[n], count, protected)
        np.testing.assert_allclose(rows[n], expected, atol=1e-12)
        np.testing.assert_array_equal(grown[n, :, 0], expected_sizes)
    assert grown.sum() == sizes.sum()


def test_attention_counts_a_token_as_often_as_it_was_joined() -> None:
    draw = np.random.default_rng(0)
    query, key, value = (torch.from_numpy(draw.normal(size=(2, 4, 5, 8))) for _ in range(3))
    sizes = torch.tensor([3.0, 1, 2, 1, 4], dtype=torch.float64)
    repeated = torch.repeat_interleave(torch.arange(5), sizes.long())
    once = ProportionalAttention()(query, key, value, sizes[None, :, None].expand(2, -1, -1))
    often = ProportionalAttention()(query, key[:, :, repeated], value[:, :, repeated], None)
    np.testing.assert_allclose(once, often, atol=1e-12)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_whole_tower_is_as_in_the_paper(spec: ModelSpec, share: float) -> None:
    model, merged = clip_model(), clip_tower(spec, clip_model())
    count = merge_tokens(merged, share)
    normalised = pixels(spec).float().permute(0, 3, 1, 2) * merged.scale + merged.shift
    with torch.inference_mode():
        embeddings, exact = merged(pixels(spec)).numpy(), clip_tower(spec, clip_model())(pixels(spec)).numpy()
        expected = encoded_one_by_one(model, normalised, count)
    np.testing.assert_allclose(embeddings, expected, atol=2e-5)
    assert (embeddings * exact).sum(axis=1).min() < 0.9999  # it does join


def test_siglips_probe_counts_joined_tokens_too(spec: ModelSpec) -> None:
    exact, merged = siglip_tower(spec), siglip_tower(spec)
    merge_tokens(merged, 0.5)
    with torch.inference_mode():
        cosines = (exact(pixels(spec)) * merged(pixels(spec))).sum(dim=1)
        hidden = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
        sizes = torch.tensor([2.0, 1, 1, 3, 1, 1])
        repeated = hidden[:, torch.repeat_interleave(torch.arange(6), sizes.long())]
        counted = merged.encoder.pooled(hidden, sizes[None, :, None].expand(2, -1, -1))
        np.testing.assert_allclose(counted, merged.encoder.pooled(repeated, None), atol=1e-5)
    assert 0.9 < cosines.min() < 0.999999


def test_the_last_layer_gets_the_tokens_that_are_left(spec: ModelSpec) -> None:
    merged = clip_tower(spec, clip_model(num_hidden_layers=8))
    count = merge_tokens(merged, 0.5)
    lengths: list[int] = []
    for layer in merged.encoder.layers:
        assert isinstance(layer, TransformersLayer)
        layer.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    with torch.inference_mode():
        merged(pixels(spec))
    assert (count, lengths) == (4, list(range(50, 50 - 8 * 4, -4)))


def test_other_towers_are_refused_with_the_reason(spec: ModelSpec) -> None:
    with pytest.raises(CannotMergeError, match="a Sequential isn't built as CLIP's or SigLIP's vision transformer"):
        merge_tokens(ImageTower(nn.Sequential(nn.Conv2d(3, 4, 224), nn.Flatten()), spec), 0.5)
    with pytest.raises(CannotMergeError, match="tokens of a Linear can't be joined"):
        merge_tokens(nn.Linear(3, 4), 0.5)


def test_a_layer_that_computes_something_else_is_refused(spec: ModelSpec) -> None:
    model = clip_model()
    model.vision_model.encoder.layers[1].layer_norm1.register_forward_hook(lambda *_: None)
    odd = model.vision_model.encoder.layers[0]
    odd.forward = lambda hidden, mask=None, **_: hidden
    with pytest.raises(CannotMergeError, match="compute something else than CLIP's"):
        merge_tokens(clip_tower(spec, model), 0.5)


def test_open_clips_tower_joins_as_transformers_does(spec: ModelSpec) -> None:
    import open_clips

    open_clips.library()
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    visual = VisionTransformer(224, 32, 32, 4, 4, mlp_ratio=1.5, output_dim=16).eval()
    exact, merged = ImageTower(visual, spec).eval(), ImageTower(visual, spec).eval()
    with torch.inference_mode():
        expected = exact(pixels(spec))
        merge_tokens(merged, 0.5)
        cosines = (merged(pixels(spec)) * expected).sum(dim=1)
    assert 0.9 < cosines.min() < 0.999999
    average = VisionTransformer(224, 32, 32, 2, 4, mlp_ratio=1.5, output_dim=16, pool_type="avg").eval()
    with pytest.raises(CannotMergeError, match="isn't pooled at its class token"):
        merge_tokens(ImageTower(average, spec), 0.5)


@pytest.mark.long
@pytest.mark.long
class TestExport:
    """The variant at the command's door."""

    OPTIONS = ("--variants", "onnx-fp32,openvino-int8-merged", "--quick", "--text-variant", "onnx-fp32")
    MERGED = (*OPTIONS, "--image-variant", "openvino-int8-merged", "--max-loss", "100")

    @pytest.fixture(autouse=True)
    def _two_recipes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(OpenVinoInt8Merged, "recipes", OpenVinoInt8Merged.recipes[::3])

    def test_it_takes_a_flag_of_its_own(
        self, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        where = ["--model", str(checkpoint), "--artifacts", str(tmp_path / "artifacts")]
        where += ["--repository", str(tmp_path / "repository"), "--json", str(tmp_path / "report.json")]
        assert cli.main([*where, *self.MERGED]) == cli.REFUSED
        assert "it approximates openvino-int8; choose another variant, or pass --allow-approximate" in capsys.readouterr().err
        assert cli.main([*where, *self.MERGED, "--force"]) == cli.REFUSED  # a flag for something else
        assert not (tmp_path / "repository").exists()
        assert cli.main([*where, *self.MERGED, "--allow-approximate", "--force"]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        row = next(row for row in report["variants"] if row["variant"] == "openvino-int8-merged")
        assert [attempt["recipe"] for attempt in row["tries"]] == ["90 % of the patches joined", "30 % of the patches joined"]
        assert all(attempt["cost"]["times"] > 0 and attempt["cost"]["cosine_mean"] > 0.5 for attempt in row["tries"])
        assert " × openvino-int8 for one item, cosine 0." in capsys.readouterr().out
        published = ModelSpec.load(tmp_path / "repository" / "clip_image" / "1" / "spec.json")
        assert published.approximation == f"openvino-int8-merged: {row['recipe']}"
        assert published.fingerprint == report["spec"]["fingerprint"]
