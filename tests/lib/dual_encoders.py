"""Small checkpoints of dual encoders that aren't CLIP's, with the files that their repositories on the hub hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import torch
import transformers
from other_checkpoints import CORPUS, SMALL, VISION, write_wordpieces, write_xlm_roberta
from torch import nn

CLIP_PIXELS = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
SQUASHED = {"size": {"height": 64, "width": 64}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
NARROW = {**SMALL, "hidden_size": 32, "intermediate_size": 64}


def vision_text(folder: Path, vision: transformers.PreTrainedConfig, text: dict[str, Any]) -> Path:
    """A VisionTextDualEncoderModel of an image model and of a text model, whose tokenizer goes by its kind."""
    folder.mkdir(parents=True)
    write = _write_mpnet if text["model_type"] == "mpnet" else write_xlm_roberta if _roberta(text) else _write_bert
    text_config = transformers.AutoConfig.for_model(**{**NARROW, "vocab_size": write(folder), **text})
    config = transformers.VisionTextDualEncoderConfig(
        vision_config=vision.to_dict(), text_config=text_config.to_dict(), projection_dim=48
    )
    _save(transformers.VisionTextDualEncoderModel(config), folder)
    return folder


def clip_italian(folder: Path) -> Path:
    """Like clip-italian/clip-italian: CLIP's image tower beside an Italian BERT."""
    vision = transformers.CLIPVisionConfig(**{**VISION, "hidden_size": 48})
    vision_text(folder, vision, {"model_type": "bert", "max_position_embeddings": 96})
    return _write_processor(folder, "CLIPFeatureExtractor", "feature_extractor_type", **CLIP_PIXELS)


def koclip(folder: Path) -> Path:
    """Like koclip/koclip-base-pt: CLIP's image tower beside a RoBERTa."""
    vision_text(folder, transformers.CLIPVisionConfig(**VISION), {**ROBERTA, "model_type": "roberta"})
    return _write_processor(folder, "CLIPImageProcessor", **CLIP_PIXELS)


ROBERTA = {"max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}


def vit_bert(folder: Path) -> Path:
    """As transformers' documentation makes one: ViT beside BERT, pictures squashed."""
    vision_text(folder, transformers.ViTConfig(**VISION), {"model_type": "bert"})
    return _write_processor(folder, "ViTImageProcessor", **SQUASHED)


def dinov2_xlm_roberta(folder: Path) -> Path:
    """DINOv2, whose configuration tells another size than its processor, beside XLM-RoBERTa."""
    vision = transformers.Dinov2Config(**{**VISION, "image_size": 112})
    vision_text(folder, vision, {**ROBERTA, "model_type": "xlm-roberta"})
    return _write_processor(folder, "BitImageProcessor", **CLIP_PIXELS)


def align(folder: Path) -> Path:
    """Like kakaobrain/align-base: an EfficientNet beside BERT."""
    folder.mkdir(parents=True)
    vision = {
        "image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 32, "hidden_size": 32,
    }  # fmt: skip
    config = transformers.AlignConfig(
        text_config={**NARROW, "vocab_size": _write_bert(folder)}, vision_config=vision, projection_dim=_align_width(vision)
    )
    _save(transformers.AlignModel(config), folder)
    return _write_processor(
        folder, "EfficientNetImageProcessor", size={"height": 80, "width": 80}, do_center_crop=True, rescale_offset=True,
        crop_size={"height": 64, "width": 64}, rescale_factor=1 / 127.5, include_top=False, do_normalize=False, resample=2,
    )  # fmt: skip


def _align_width(vision: dict[str, Any]) -> int:
    """Width of the image model's output, which isn't projected."""
    return int(transformers.AlignVisionConfig(**vision).hidden_dim)


def flava(folder: Path) -> Path:
    """Like facebook/flava-full: the whole model of its training, with what only that needs."""
    folder.mkdir(parents=True)
    shape = {"text_config": {**NARROW, "vocab_size": _write_bert(folder)}, "image_config": {**NARROW, "image_size": 64}}
    config = transformers.FlavaConfig(
        **shape, multimodal_config=NARROW, hidden_size=32, projection_dim=48, init_codebook=False,
        image_codebook_config={"hidden_size": 8, "vocab_size": 16},
    )  # fmt: skip
    _save(transformers.FlavaForPreTraining(config), folder)
    size = {"height": 64, "width": 64}
    return _write_processor(folder, "FlavaImageProcessor", "feature_extractor_type", size=size, crop_size=size)


def clipseg(folder: Path) -> Path:
    """Like CIDAS/clipseg-rd64-refined: CLIP inside, at a larger size than it was trained at."""
    size = _write_clip_tokenizer(folder)
    text = {**NARROW, "vocab_size": size, "eos_token_id": 2, "max_position_embeddings": 77}
    config = transformers.CLIPSegConfig(
        text_config=text, vision_config={**VISION, "num_hidden_layers": 2, "image_size": 32}, projection_dim=48,
        extract_layers=[0, 1], reduce_dim=16, decoder_num_attention_heads=4, decoder_intermediate_size=32,
    )  # fmt: skip
    _save(transformers.CLIPSegForImageSegmentation(config), folder)
    return _write_processor(folder, "ViTImageProcessor", **SQUASHED)


def owlvit(folder: Path) -> Path:
    """Like google/owlvit-base-patch32: texts of 16 tokens, padded with "!"."""
    size = _write_clip_tokenizer(folder, "!")
    text = {**NARROW, "vocab_size": size, "max_position_embeddings": 16, "eos_token_id": size - 1, "bos_token_id": size - 2}
    config = transformers.OwlViTConfig(text_config=text, vision_config=VISION, projection_dim=48)
    _save(transformers.OwlViTForObjectDetection(config), folder)
    return _write_processor(folder, "OwlViTImageProcessor", size={"height": 64, "width": 64})


def _save(model: nn.Module, folder: Path) -> None:
    """Save a model with weights of all parameters unlike those that they begin with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
            elif "logit_scale" in name:
                parameter.fill_(3.0)
    model.save_pretrained(folder)


def _write_bert(folder: Path) -> int:
    size = write_wordpieces(folder)
    settings = {"do_lower_case": False, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return size


def _write_mpnet(folder: Path) -> int:
    """MPNet's tokenizer: BERT's pieces between RoBERTa's marks."""
    characters = sorted({character for text in CORPUS for character in text.lower() if character.strip()})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *characters, *(f"##{c}" for c in characters), "[UNK]", "<mask>"]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    settings = {"do_lower_case": True, "model_max_length": 64, "tokenizer_class": "MPNetTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(pieces)


def _write_clip_tokenizer(folder: Path, pad_token: str = "<|endoftext|>") -> int:
    folder.mkdir(parents=True)
    checkpoints.write_tokenizer(folder, pad_token, checkpoints.MERGES)
    return checkpoints.tokens(checkpoints.MERGES)


def _roberta(text: dict[str, Any]) -> bool:
    return "roberta" in text["model_type"] or text["model_type"] == "camembert"


def _write_processor(folder: Path, name: str, key: str = "image_processor_type", **settings: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps({key: name, **settings}))
    return folder


def nomic_text(folder: Path, width: int) -> Path:
    """Like nomic-ai/nomic-embed-text-v1.5: rotary positions without an end, the mean, code of its own that nobody runs."""
    (folder / "1_Pooling").mkdir(parents=True)
    shape = {**SMALL, "hidden_size": width, "vocab_size": _write_bert(folder), "max_position_embeddings": 32}
    _save(transformers.NomicBertModel(transformers.NomicBertConfig(**shape)), folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}
    _write(folder / "config.json", config)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 120, "do_lower_case": False})
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    return folder


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
