"""open_clip for the tests, small models of its kinds, and its own embeddings of them."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import other_checkpoints
import references
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file
from transformers import T5Tokenizer, XLMRobertaConfig

from clip_client.preprocess import to_rgb

REQUIREMENTS = ["open-clip-torch==3.3.0", "timm==1.0.31", "torchvision==0.28.0", "ftfy==6.3.1", "wcwidth==0.9.4"]
TEXT = {"vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
VISION = {"image_size": 64, "patch_size": 16, "width": 64, "head_width": 16, "layers": 1}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
FASTVIT = {
    "image_size": 64,
    "timm_model_name": "fastvit_t8",
    "timm_model_pretrained": False,
    "timm_pool": "avg",
    "timm_proj": None,
}


def library() -> Any:
    """open_clip, installed on first use into a folder of its own.

    torchvision's wheel on PyPI is built for CUDA. Beside a torch for CPUs its operators don't load, without which it can't be
    imported, so they are declared; none of them is used here. Where others find it, transformers' imports would fail too:
    the folder is looked into once, and hidden again.
    """
    if "open_clip" not in sys.modules and not importlib.util.find_spec("open_clip"):
        folder = Path(sys.prefix) / f"open-clip-{REQUIREMENTS[0].partition('==')[2]}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _install(folder)
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        sys.path.append(str(folder))
        importlib.import_module("open_clip")
        sys.path.remove(str(folder))
    import open_clip

    return open_clip


@contextmanager
def own_model(config: Path) -> Iterator[None]:
    """A model of one's own in the library's list, which is as it was installed afterwards."""
    from open_clip import factory

    library().add_model_config(config)
    try:
        yield
    finally:
        factory._MODEL_CONFIG_PATHS.remove(config)
        del factory._MODEL_CONFIGS[config.stem]


def _install(folder: Path) -> None:
    made = folder.with_name(f"{folder.name}.making")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(made), *REQUIREMENTS], check=True)
    made.rename(folder)


def resnet(folder: Path) -> list[str]:
    """Like RN50: a modified ResNet with attention pooling, CLIP's own text tower."""
    save(folder, {"embed_dim": 48, "vision_cfg": RESNET, "text_cfg": {**TEXT, "context_length": 77}})
    return ["--model", f"open_clip:{folder}"]


def mobile(folder: Path) -> list[str]:
    """Like MobileCLIP: a tower of timm's, a text tower without a mask, pictures scaled to 0..1 alone."""
    text = {**TEXT, "context_length": 77, "no_causal_mask": True}
    unscaled = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"}
    save(folder, {"embed_dim": 48, "vision_cfg": FASTVIT, "text_cfg": text, "custom_text": True}, **unscaled)
    return ["--model", f"open_clip:{folder}"]


def siglip(folder: Path) -> list[str]:
    """Like SigLIP: a tokenizer of Hugging Face's behind canonical text, a bias, pictures squashed."""
    text = {
        **TEXT, "context_length": 64, "hf_tokenizer_name": "its own", "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    }  # fmt: skip
    text["vocab_size"] = _write_t5(folder)
    model = {"embed_dim": 48, "init_logit_bias": -3, "custom_text": True, "vision_cfg": VISION, "text_cfg": text}
    save(folder, model, resize_mode="squash", mean=[0.5] * 3, std=[0.5] * 3)
    return ["--model", f"open_clip:{folder}"]


def multilingual(folder: Path) -> list[str]:
    """Like xlm-roberta-base-ViT-B-32: a text tower of transformers."""
    size = other_checkpoints.write_xlm_roberta(folder)
    shape = {**other_checkpoints.SMALL, "vocab_size": size, "max_position_embeddings": 100, "type_vocab_size": 1}
    XLMRobertaConfig(**shape).save_pretrained(folder / "shape")
    text = {"hf_model_name": str(folder / "shape"), "hf_tokenizer_name": "its own", "hf_pooler_type": "mean_pooler"}
    text |= {"hf_proj_type": "linear", "context_length": 77}
    save(folder, {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": text})
    return ["--model", f"open_clip:{folder}"]


def embed(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> references.Pair:
    """Unit embeddings through open_clip's own functions."""
    model, preprocess = library().create_model_from_pretrained(f"local-dir:{folder}")
    tokens = library().get_tokenizer(f"local-dir:{folder}")(list(texts))
    pixels = torch.stack([preprocess(picture) for picture in map(upright, images)])
    with torch.inference_mode():
        return model.eval().encode_image(pixels, normalize=True).numpy(), model.encode_text(tokens, normalize=True).numpy()


def upright(image: bytes) -> Image.Image:
    """A picture as decoded here: open_clip leaves orientation, and what is transparent, to its caller."""
    return to_rgb(Image.open(io.BytesIO(image)))


def probabilities(folder: Path, images: Sequence[bytes], texts: Sequence[str]) -> np.ndarray:
    """open_clip's own probability of each pair, float32 [N, M]."""
    model = library().create_model(f"local-dir:{folder}")
    image, text = embed(folder, images, texts)
    with torch.no_grad():
        return torch.sigmoid(torch.tensor(image @ text.T) * model.logit_scale.exp() + model.logit_bias).numpy()


def save(folder: Path, model: dict[str, Any], **preprocessing: Any) -> None:
    """Write a folder as open_clip pushes it to the hub, with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model_cfg": model, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    made = library().create_model(f"local-dir:{folder}", pretrained_text=False)
    with torch.no_grad():  # biases begin as zeros
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    save_file({name: tensor.contiguous() for name, tensor in made.state_dict().items()}, folder / "open_clip_model.safetensors")


def _write_t5(folder: Path) -> int:
    """A T5 tokenizer as timm's SigLIP repositories have; returns the size of its vocabulary."""
    characters = sorted({character for text in other_checkpoints.CORPUS for character in text.lower()})
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁", -2.0),
        *((piece, -3.0) for piece in characters if piece != " "),
    ]
    tokenizer = T5Tokenizer(vocab=[*pieces, ("▁a", -1.5), ("cat", -2.0)], extra_ids=0, pad_token="</s>", model_max_length=64)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)
