"""Recipes of repositories with open_clip's files: alone, beside Hugging Face's, beside timm's, beside code of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import checkpoints
import open_clips
import torch
from safetensors.torch import load_file, save_file

import hugging_face_clips
import text_models
from hugging_face_clips import Shape
from recipe import Layout, Recipe, stirred, write

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
NARROW: dict[str, dict[str, Any]] = {
    "fastvit_mci": {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)},
    "vit_base_mci": {},  # its stem has a width of its own
    "vit_": {"embed_dim": 64, "depth": 2, "num_heads": 2},
    "eva": {"embed_dim": 64, "depth": 2, "num_heads": 2},
    "convnext_": {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)},
    "swin_": {"embed_dim": 32, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)},
}
"""Arguments that make timm's models small, by the first beginning of a name that fits; ViTamin takes none."""

UNSCALED = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "resize_mode": "shortest"}
HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
SQUASHED = {**HALVES, "interpolation": "bicubic", "resize_mode": "squash"}
OPENAI = {"mean": hugging_face_clips.OPENAI_MEAN, "std": hugging_face_clips.OPENAI_STD}


@contextlib.contextmanager
def narrow_timm() -> Iterator[None]:
    """Let timm build narrow and shallow models for the time of the block: both sides of a comparison in this process."""
    open_clips.library()
    import timm

    create = timm.create_model

    def narrow(name: str, **options: Any) -> Any:
        sizes = next((sizes for start, sizes in NARROW.items() if name.startswith(start)), {})
        return create(name, **{**options, **sizes})

    timm.create_model = narrow
    try:
        yield
    finally:
        timm.create_model = create


def write_open_clip(folder: Path, model: Mapping[str, Any], preprocessing: Mapping[str, Any], text: str = "") -> None:
    """Write a repository as open_clip pushes it to the hub.

    Args:
        folder: of the files.
        model: open_clip's configuration of it.
        preprocessing: of its pictures.
        text: kind of the tokenizer that lies beside, none for open_clip's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        size = text_models.write_tokenizer(folder, text)
        model = {**model, "text_cfg": {**model["text_cfg"], **({"vocab_size": size} if "width" in model["text_cfg"] else {})}}
    write(folder / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": preprocessing})
    made = stirred(open_clips.library().create_model(f"local-dir:{folder}", pretrained_text=False))
    tensors = {name: tensor.contiguous() for name, tensor in made.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors", {"format": "pt"})


def write_laion(folder: Path, shape: Shape) -> None:
    """Write one model in both formats, as laion's repositories have it."""
    hugging_face_clips.write_clip(folder, shape)
    save_file(
        _open_clip_names(load_file(folder / "model.safetensors")), folder / "open_clip_model.safetensors", {"format": "pt"}
    )
    vision = {"image_size": shape.image, "layers": 2, "width": 32, "head_width": 16, "patch_size": shape.patch}
    vision |= {"mlp_ratio": 2.0}
    text = {**TEXT, "mlp_ratio": 2.0}
    mean = {"mean": list(shape.mean), "std": OPENAI["std"] if list(shape.mean) == OPENAI["mean"] else HALVES["std"]}
    model = {"embed_dim": shape.projection, "vision_cfg": vision, "text_cfg": text}
    write(folder / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": mean})


def _open_clip_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return Hugging Face's tensors of a CLIP as open_clip names and joins them."""
    renamed = {}
    for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        for layer in range(2):
            old, new = f"{tower}.encoder.layers.{layer}", f"{prefix}.resblocks.{layer}"
            for kind in ("weight", "bias"):
                parts = [tensors[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                renamed[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
                for theirs, ours in _LAYER.items():
                    renamed[f"{new}.{ours}.{kind}"] = tensors[f"{old}.{theirs}.{kind}"]
    renamed |= {new: tensors[old] for old, new in _PLAIN.items()}
    renamed |= {new: tensors[f"{old}.weight"].T for new, old in _PROJECTIONS.items()}
    return {name: tensor.clone().contiguous() for name, tensor in renamed.items()}


_LAYER = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
_PROJECTIONS = {"visual.proj": "visual_projection", "text_projection": "text_projection"}
_PLAIN = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    **{
        f"{old}.{kind}": f"{new}.{kind}"
        for old, new in {
            "vision_model.pre_layrnorm": "visual.ln_pre",
            "vision_model.post_layernorm": "visual.ln_post",
            "text_model.final_layer_norm": "ln_final",
        }.items()
        for kind in ("weight", "bias")
    },
}


def write_siglip(folder: Path, name: str, timm: str, image: int, embedding: int = 64) -> None:
    """Write one of timm's SigLIP models, whose tokenizer is T5's."""
    vision = {"image_size": image, "timm_model_name": timm, "timm_model_pretrained": False, "timm_pool": "map"}
    text = {
        **TEXT, "context_length": 64, "hf_tokenizer_name": name, "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    }  # fmt: skip
    model = {"embed_dim": embedding, "init_logit_bias": -10, "custom_text": True, "text_cfg": text}
    write_open_clip(folder, {**model, "vision_cfg": {**vision, "timm_proj": "none"}}, SQUASHED, "t5")


def write_marqo(folder: Path, code: str) -> None:
    """Write open_clip's files beside a configuration whose class is code in the repository, and weights under its names."""
    write_siglip(folder, "timm/ViT-B-16-SigLIP", "vit_base_patch16_siglip_224", 224)
    tensors = load_file(folder / "open_clip_model.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    name = code.removesuffix(".py")
    auto = {"AutoConfig": f"{name}.Config", "AutoModel": f"{name}.Model", "AutoProcessor": f"{name}.Processor"}
    write(folder / "config.json", {"architectures": ["Model"], "auto_map": auto, "model_type": "siglip"})
    write(folder / "preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor", **_SIGLIP_PROCESSOR})
    (folder / code).write_text("raise SystemExit('code of a repository was run')\n")


_SIGLIP_PROCESSOR = {"size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}


def write_timm(folder: Path, timm: str, model: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> None:
    """Write open_clip's files beside timm's image tower, and the tokenizer that open_clip pushes with every CLIP."""
    write_open_clip(folder, model, preprocessing)
    hugging_face_clips.write_tokenizer(folder)
    tensors = load_file(folder / "open_clip_model.safetensors")
    image = {name: tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    save_file({name.removeprefix("visual."): tensor for name, tensor in image.items()}, folder / "model.safetensors")
    write(folder / "config.json", {"architecture": timm, "num_classes": 0, "pretrained_cfg": {"input_size": [3, 224, 224]}})


_BASE = {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32}
_LAION = {"activation": "gelu", "parts": True, "merges": checkpoints.ALL_MERGES}
_EVERYTHING = Layout("both")
_OWN = {"library": "open_clip", "kind": "open_clip"}


def _laion(id: str, layout: Layout = _EVERYTHING, **shape: Any) -> Recipe:
    made = partial(write_laion, shape=Shape(**_LAION, **shape))
    return Recipe(id=id, make=made, layout=layout, kind="Hugging Face and open_clip")


def _own(id: str, model: Mapping[str, Any], preprocessing: Mapping[str, Any], layout: Layout, **more: Any) -> Recipe:
    text = more.pop("text", "")
    return Recipe(id=id, make=partial(write_open_clip, model=model, preprocessing=preprocessing, text=text), layout=layout,
                  **{**_OWN, **more})  # fmt: skip


def _timm(name: str, image: int, pool: str, projection: str | None = None) -> dict[str, Any]:
    return {"image_size": image, "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool,
            "timm_proj": projection}  # fmt: skip


_MOBILE = {"embed_dim": 512, "vision_cfg": _timm("fastvit_mci1", 256, "avg"), "custom_text": True,
           "text_cfg": {**TEXT, "no_causal_mask": True}}  # fmt: skip
_PERCEPTION = {"embed_dim": 64, "vision_cfg": _timm("vit_pe_core_base_patch16_224", 224, "map"), "custom_text": True,
               "text_cfg": {**TEXT, "context_length": 32}}  # fmt: skip
_EVA = {
    "embed_dim": 64,
    "vision_cfg": _timm("eva02_base_patch16_clip_224", 224, "token"),
    "text_cfg": TEXT,
    "custom_text": True,
}
_NLLB = {"hf_model_name": "facebook/nllb-200-distilled-600M", "hf_tokenizer_name": "visheratin/nllb-clip-base-siglip",
         "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"}  # fmt: skip
_BIOMED = {"hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "hf_proj_type": "mlp",
           "context_length": 256, "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
           "hf_pooler_type": "cls_last_hidden_state_pooler"}  # fmt: skip
_CLIPA = {**TEXT, "context_length": 32, "hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True},
          "pool_type": "last", "no_causal_mask": True}  # fmt: skip
_SIGLIP_VISION = _timm("vit_base_patch16_siglip_384", 384, "map", "none")

RECIPES = [
    _laion("laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    _laion("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", patch=16),
    _laion("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", patch=14, projection=768, mean=HALVES["mean"]),
    _laion("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", patch=14, projection=1024),
    _laion("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", Layout("sharded both"), patch=14, projection=1280),
    _own("apple/MobileCLIP-S1-OpenCLIP", _MOBILE, UNSCALED, Layout("both", beside=("LICENSE",))),
    _own("apple/DFN2B-CLIP-ViT-B-16",
         {"embed_dim": 512, "quick_gelu": True, "vision_cfg": {**_BASE, "patch_size": 16}, "text_cfg": TEXT},
         OPENAI, Layout("pickle", beside=("LICENSE",))),
    _own("timm/PE-Core-B-16", _PERCEPTION, {**HALVES, "interpolation": "bilinear", "resize_mode": "squash"},
         Layout(beside=("LICENSE",))),
    _own("visheratin/nllb-clip-base-siglip",
         {"embed_dim": 64, "custom_text": True, "init_logit_bias": -10, "vision_cfg": _SIGLIP_VISION, "text_cfg": _NLLB},
         SQUASHED, Layout("pickle"), text="nllb", needs=("facebook/nllb-200-distilled-600M",)),
    _own("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
         {"embed_dim": 64, "vision_cfg": _timm("vit_base_patch16_224", 224, "", "linear"), "text_cfg": _BIOMED},
         OPENAI, Layout("pickle"), text="bert", needs=("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",)),
    _own("UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B",
         {"embed_dim": 64, "vision_cfg": {**_BASE, "patch_size": 14, "no_ln_pre": True, "pool_type": "avg",
                                          "final_ln_after_pool": True}, "text_cfg": _CLIPA},
         {"interpolation": "bilinear", "resize_mode": "squash"}, Layout("pickle"), text="bert",
         needs=("google-bert/bert-base-uncased",)),
    _own("timm/resnet50_clip.openai",
         {"embed_dim": 64, "quick_gelu": True, "text_cfg": TEXT,
          "vision_cfg": {"image_size": 224, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}}, OPENAI, Layout("both")),
    Recipe(id="timm/ViT-B-16-SigLIP", layout=Layout("both"), **_OWN,
           make=partial(write_siglip, name="timm/ViT-B-16-SigLIP", timm="vit_base_patch16_siglip_224", image=224)),
    Recipe(id="timm/vit_base_patch32_clip_224.openai", layout=Layout("both"), **_OWN,
           make=partial(write_timm, timm="vit_base_patch32_clip_224", preprocessing=OPENAI,
                        model={"embed_dim": 512, "quick_gelu": True, "vision_cfg": _BASE, "text_cfg": TEXT})),
    Recipe(id="timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k", layout=Layout("both"), **_OWN,
           make=partial(write_timm, timm="eva02_base_patch16_clip_224", model=_EVA, preprocessing=OPENAI)),
    Recipe(id="Marqo/marqo-fashionSigLIP", layout=Layout("both", beside=("onnx/model.onnx",)), library="open_clip",
           kind="open_clip, beside code", needs=("timm/ViT-B-16-SigLIP",),
           make=partial(write_marqo, code="marqo_fashionSigLIP.py")),
    Recipe(id="Marqo/marqo-ecommerce-embeddings-B", layout=Layout("both"), library="open_clip", kind="open_clip, beside code",
           needs=("timm/ViT-B-16-SigLIP",), make=partial(write_marqo, code="marqo_ecommerce_embeddings.py")),
]  # fmt: skip

NAMED = [
    Recipe(id="facebook/nllb-200-distilled-600M", make=partial(text_models.write_text_encoder, kind="nllb")),
    Recipe(
        id="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", make=partial(text_models.write_text_encoder, kind="bert")
    ),
    Recipe(id="google-bert/bert-base-uncased", make=partial(text_models.write_text_encoder, kind="bert")),
]
"""Repositories that others name, and that are no case of their own."""
