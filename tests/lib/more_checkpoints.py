"""Checkpoints of transformers' further families, made small: configs and files laid out as their repositories have them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import checkpoints
import other_checkpoints
import sentencepiece
import torch
import transformers
from other_checkpoints import CORPUS, SMALL, write_xlm_roberta
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram

VISION = {**SMALL, "image_size": 32, "patch_size": 8}
MERGES = 200  # of CLIP's vocabulary
CLIP_TEXT = {
    **SMALL,
    "vocab_size": checkpoints.tokens(MERGES),
    "bos_token_id": checkpoints.tokens(MERGES) - 2,
    "eos_token_id": checkpoints.tokens(MERGES) - 1,
}
SPECIAL = {"lstrip": True, "normalized": False, "rstrip": True, "single_word": False, "special": True}


def siglip(folder: Path, **settings: Any) -> Path:
    """Like google/siglip-base-patch16-224: spiece.model, and a tokenizer.json beside it that keeps punctuation."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*CORPUS, "a/b <c> d_e", "cat </s>"] * 3), model_writer=model, vocab_size=95,
        model_type="unigram", character_coverage=0.999, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = [(pieces.IdToPiece(n), pieces.GetScore(n)) for n in range(len(pieces))]
    fast = Tokenizer(Unigram(vocabulary, unk_id=2))
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.save(str(folder / "tokenizer.json"))
    tokens = {"1": {"content": "</s>", **SPECIAL}, "2": {"content": "<unk>", **SPECIAL}}
    names = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    write(
        folder / "tokenizer_config.json", added_tokens_decoder=tokens, additional_special_tokens=[], **names,
        clean_up_tokenization_spaces=True, do_lower_case=True, model_max_length=64, processor_class="SiglipProcessor",
        sp_model_kwargs={}, tokenizer_class="SiglipTokenizer", **{"model_input_names": ["input_ids"], **settings},
    )  # fmt: skip
    own = {key: value for key, value in SPECIAL.items() if key != "special"}
    write(folder / "special_tokens_map.json", **{key: {"content": name, **own} for key, name in names.items()})
    text = {**SMALL, "vocab_size": len(vocabulary), "max_position_embeddings": 64, "projection_size": 64}
    save(transformers.SiglipModel(transformers.SiglipConfig(vision_config=VISION, text_config=text)), folder)
    write_siglip_processor(folder)
    return folder


def siglip2(folder: Path, **settings: Any) -> Path:
    """Like google/siglip2-base-patch16-224: a model of the type siglip; Gemma's tokenizer, saved as it padded and cut to 64."""
    vocabulary = write_gemma(folder, **settings)
    text = {**SMALL, "vocab_size": vocabulary, "projection_size": 64}
    save(transformers.SiglipModel(transformers.SiglipConfig(vision_config=VISION, text_config=text)), folder)
    write_siglip_processor(folder)
    return folder


def naflex(folder: Path, *, most: int = 16, **settings: Any) -> Path:
    """Like google/siglip2-base-patch16-naflex: as many patches of a picture as are allowed, in its own shape."""
    vocabulary = write_gemma(folder, **settings)
    text = {**SMALL, "vocab_size": vocabulary, "projection_size": 64}
    vision = {**SMALL, "patch_size": 8, "num_patches": 16}
    save(transformers.Siglip2Model(transformers.Siglip2Config(vision_config=vision, text_config=text)), folder)
    write(
        folder / "preprocessor_config.json", do_convert_rgb=None, do_normalize=True, do_rescale=True, do_resize=True,
        image_mean=[0.5] * 3, image_std=[0.5] * 3, image_processor_type="Siglip2ImageProcessor", max_num_patches=most,
        patch_size=8, processor_class="Siglip2Processor", resample=2, rescale_factor=1 / 255,
    )  # fmt: skip
    return folder


def write_gemma(folder: Path, **settings: Any) -> int:
    """Gemma's tokenizer as SigLIP 2's repositories hold it; returns the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt = Tokenizer(BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learnt.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    learnt.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    state = json.loads(learnt.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    learnt = Tokenizer.from_str(json.dumps(state))
    learnt.enable_truncation(64)
    learnt.enable_padding(length=64, pad_id=0, pad_token="<pad>")
    learnt.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    plain = {**SPECIAL, "lstrip": False, "rstrip": False}
    tokens = {str(n): {"content": name, **plain} for n, name in enumerate(special[:5])}
    write(
        folder / "tokenizer_config.json", added_tokens_decoder=tokens, **names, add_bos_token=False, add_eos_token=True,
        clean_up_tokenization_spaces=False, extra_special_tokens={}, max_length=64, pad_to_multiple_of=None,
        pad_token_type_id=0, padding_side="right", processor_class="SiglipProcessor", sp_model_kwargs={},
        spaces_between_special_tokens=False, stride=0, tokenizer_class="GemmaTokenizer", truncation_side="right",
        truncation_strategy="longest_first", use_default_system_prompt=False,
        **{"model_input_names": ["input_ids"], "model_max_length": 64, **settings},
    )  # fmt: skip
    own = {key: value for key, value in plain.items() if key != "special"}
    write(folder / "special_tokens_map.json", **{key: {"content": name, **own} for key, name in names.items()})
    return learnt.get_vocab_size()


def metaclip_2(folder: Path) -> Path:
    """Like facebook/metaclip-2-worldwide-b32: CLIP's towers, XLM-V's tokenizer, the end token 2."""
    folder.mkdir(parents=True)
    text = {**SMALL, "vocab_size": write_xlm_roberta(folder), "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = transformers.MetaClip2Config(vision_config=VISION, text_config=text, projection_dim=48)
    save(transformers.MetaClip2Model(config), folder)
    write_clip_processor(folder)
    return folder


def altclip(folder: Path) -> Path:
    """Like BAAI/AltCLIP: an XLM-RoBERTa with as many positions as its tokenizer allows, and two reserved ones."""
    folder.mkdir(parents=True)
    text = {**SMALL, "vocab_size": write_xlm_roberta(folder), "max_position_embeddings": 34, "project_dim": 40}
    other_checkpoints.AutoTokenizer.from_pretrained(folder, model_max_length=10**30).save_pretrained(folder)
    config = transformers.AltCLIPConfig(vision_config=VISION, text_config=text, projection_dim=48)
    save(transformers.AltCLIPModel(config), folder)
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 32, "size": 32}
    write(folder / "preprocessor_config.json", **{**checkpoints.PROCESSOR, **old, "image_processor_type": "CLIPImageProcessor"})
    return folder


def long_clip(folder: Path) -> Path:
    """Like zer0int/LongCLIP-GmP-ViT-L-14: a table of 248 positions, of which config.json and the tokenizer say 77."""
    text = {**CLIP_TEXT, "max_position_embeddings": 248}
    checkpoints.make(folder, vision=VISION, text=text, projection=48, merges=MERGES, processor=_clip_sizes(32))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 77
    write(folder / "config.json", **config)
    return folder


def groupvit(folder: Path) -> Path:
    """Like nvidia/groupvit-gcc-yfcc."""
    groups = {"depths": [1, 1, 1], "num_hidden_layers": 3, "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 4]}
    config = transformers.GroupViTConfig(
        vision_config={**VISION, **groups}, text_config=CLIP_TEXT, projection_dim=48, projection_intermediate_dim=64
    )
    save(transformers.GroupViTModel(config), folder)
    _write_clip_parts(folder)
    return folder


def aimv2(folder: Path) -> Path:
    """Like apple/aimv2-large-patch14-224-lit."""
    config = transformers.Aimv2Config(vision_config=VISION, text_config=CLIP_TEXT, projection_dim=48)
    save(transformers.Aimv2Model(config), folder)
    _write_clip_parts(folder)
    return folder


def save(model: Any, folder: Path) -> None:
    """Save with weights that make every input count: of the size that layers keep their inputs' variance."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.dim() > 1:
                tensor.normal_(std=0.7 if "embedding" in name else tensor[0].numel() ** -0.5)
            elif name.endswith("bias") or "class_embedding" in name:
                tensor.normal_(std=0.3)
            elif name.endswith("logit_scale"):
                tensor.fill_(2.0)
            elif name.endswith(("logit_bias", "temperature")):
                tensor.fill_(-1.5 if "bias" in name else 0.3)
    model.save_pretrained(folder)


def write_siglip_processor(folder: Path) -> None:
    """SigLIP's: squashed, in -1..1."""
    write(
        folder / "preprocessor_config.json", do_convert_rgb=None, do_normalize=True, do_rescale=True, do_resize=True,
        image_mean=[0.5] * 3, image_std=[0.5] * 3, image_processor_type="SiglipImageProcessor", resample=3,
        processor_class="SiglipProcessor", rescale_factor=1 / 255, size={"height": 32, "width": 32},
    )  # fmt: skip


def write_clip_processor(folder: Path) -> None:
    """CLIP's."""
    write(folder / "preprocessor_config.json", **{**checkpoints.PROCESSOR, **_clip_sizes(32)})


def write(path: Path, **content: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content))


def _clip_sizes(side: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _write_clip_parts(folder: Path) -> None:
    checkpoints.write_tokenizer(folder, "<|endoftext|>", MERGES)
    write_clip_processor(folder)
