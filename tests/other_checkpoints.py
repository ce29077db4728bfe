"""Checkpoints of families other than CLIP, made from configs: seeded random weights, small vocabularies of their own kind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import ChineseCLIPConfig, ChineseCLIPModel, Siglip2Tokenizer, SiglipConfig, SiglipModel, SiglipTokenizer

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
CORPUS = [
    "a photo of a cat",
    "one of many words, written in lower case and then IN UPPER CASE",
    "Ångström naïve café",
    "ten pictures of three birds on a wire",
    "日本語のテキスト 一只猫的照片 杰尼龟",
    "the quick brown fox jumps over the lazy dog",
    "a cake with 12345 candles! isn't it? (yes) #birthday",
]


def siglip(folder: Path) -> Path:
    """SigLIP: its tokenizer as a sentencepiece model, squashed pictures."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_writer=model, vocab_size=90, model_type="unigram",
        character_coverage=0.99, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "trained.model").write_bytes(model.getvalue())
    tokenizer = SiglipTokenizer(str(folder / "trained.model"), model_input_names=["input_ids"], model_max_length=64)
    tokenizer.save_pretrained(folder)
    (folder / "trained.model").unlink()
    _save_siglip(folder, vocabulary=len(tokenizer), resample=3)
    return folder


def siglip2(folder: Path) -> Path:
    """SigLIP 2 of fixed resolution: a Gemma-like tokenizer that lower-cases, no bound on its length."""
    learnt = Tokenizer(BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learnt.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    learned = json.loads(learnt.to_str())["model"]
    tokenizer = Siglip2Tokenizer(
        vocab=learned["vocab"], merges=[tuple(pair) for pair in learned["merges"]],
        add_bos_token=False, add_eos_token=True, padding_side="right", model_input_names=["input_ids"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    _save_siglip(folder, vocabulary=len(tokenizer), resample=2)
    return folder


def chinese_clip(folder: Path) -> Path:
    """Chinese-CLIP: a BERT with a vocabulary of words and characters."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    vocabulary = write_wordpieces(folder)
    config = ChineseCLIPConfig(
        vision_config={**SMALL, "image_size": 64, "patch_size": 16},
        text_config={**SMALL, "vocab_size": vocabulary, "max_position_embeddings": 52},
        projection_dim=48,
    )
    ChineseCLIPModel(config).save_pretrained(folder)
    _write_processor(folder, "ChineseCLIPImageProcessor", size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return folder


def write_wordpieces(folder: Path) -> int:
    """A ``vocab.txt`` of BERT's; returns its size."""
    words = sorted({word for text in CORPUS for word in text.lower().split()})
    characters = sorted({character for text in CORPUS for character in text.lower() if character.strip()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    pieces += [word for word in words if word not in pieces]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return len(pieces)


def _save_siglip(folder: Path, *, vocabulary: int, resample: int) -> None:
    torch.manual_seed(0)
    config = SiglipConfig(
        vision_config={**SMALL, "image_size": 64, "patch_size": 16},
        text_config={**SMALL, "vocab_size": vocabulary, "projection_size": 64},
    )
    model = SiglipModel(config)
    with torch.no_grad():  # neither as small as they are made, nor as sure as they would be trained
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-1.5)
    model.save_pretrained(folder)
    _write_processor(
        folder, "SiglipImageProcessor", size={"height": 64, "width": 64}, resample=resample,
        image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5],
    )  # fmt: skip


def _write_processor(folder: Path, name: str, **settings: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **settings}))
