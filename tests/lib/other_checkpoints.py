"""Checkpoints of families other than CLIP, made from configs: seeded random weights, small vocabularies of their own kind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    DistilBertConfig,
    DistilBertModel,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipTokenizer,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {**SMALL, "num_hidden_layers": 1, "image_size": 64, "patch_size": 16}
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
        vision_config=VISION,
        text_config={**SMALL, "vocab_size": vocabulary, "max_position_embeddings": 52},
        projection_dim=48,
    )
    ChineseCLIPModel(config).save_pretrained(folder)
    _write_processor(folder, "ChineseCLIPImageProcessor", size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    return folder


def sentence_transformer(folder: Path) -> Path:
    """Like clip-ViT-B-32-multilingual-v1: DistilBERT, the mean, a dense layer."""
    torch.manual_seed(0)
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "2_Dense").mkdir()
    vocabulary = write_wordpieces(folder)
    shape = {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "vocab_size": vocabulary}
    DistilBertModel(DistilBertConfig(**shape)).save_pretrained(folder)
    BertTokenizer.from_pretrained(folder, do_lower_case=False).save_pretrained(folder)
    save_file({"linear.weight": torch.randn(512, 64)}, folder / "2_Dense" / "model.safetensors")
    dense = {"in_features": 64, "out_features": 512, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
    types = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
        for n, (path, name) in enumerate(types.items())
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False})
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True})
    _write(folder / "2_Dense" / "config.json", dense)
    return folder


def inside_folder(folder: Path) -> Path:
    """The same, with its encoder in a folder, as sentence-transformers saved it until 2021."""
    sentence_transformer(folder)
    (folder / "0_Transformer").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(folder / "0_Transformer" / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    _write(folder / "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])
    return folder


def m_clip(folder: Path) -> Path:
    """Like XLM-Roberta-Large-Vit-B-32: XLM-RoBERTa, whose shape another folder holds, the mean, a linear layer."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    vocabulary = write_xlm_roberta(folder)
    shape = {**SMALL, "vocab_size": vocabulary, "max_position_embeddings": 100, "pad_token_id": 1, "type_vocab_size": 1}
    encoder = XLMRobertaModel(XLMRobertaConfig(**shape))
    encoder.config.save_pretrained(folder / "small-xlm-roberta")
    weights = {f"transformer.{name}": tensor for name, tensor in encoder.state_dict().items()}
    linear = {"LinearTransformation.weight": torch.randn(512, 64), "LinearTransformation.bias": torch.randn(512)}
    save_file({**weights, **linear}, folder / "model.safetensors")
    _write(folder / "config.json", {"model_type": "M-CLIP", "modelBase": "small-xlm-roberta", "numDims": 512})
    return folder


def write_xlm_roberta(folder: Path) -> int:
    """A tokenizer of XLM-RoBERTa's; returns the size of its vocabulary."""
    pieces = sorted({character for text in CORPUS for character in text.replace(" ", "▁")})
    vocabulary = [*((token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")), *((piece, -2.0) for piece in pieces)]
    tokenizer = XLMRobertaTokenizer(vocab=[*vocabulary, ("▁a", -1.0), ("<mask>", 0.0)], model_max_length=80)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def write_wordpieces(folder: Path) -> int:
    """A ``vocab.txt`` of BERT's; returns its size."""
    words = sorted({word for text in CORPUS for word in text.lower().split()})
    characters = sorted({character for text in CORPUS for character in text.lower() if character.strip()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    pieces += [word for word in words if word not in pieces]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return len(pieces)


def padded(make: Callable[..., Path], length: int, folder: Path, **shape: Any) -> Path:
    """A checkpoint whose tokenizer was saved after a call that padded to a length, cut at it, and left it so."""
    make(folder, **shape)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer(["a cat", "a"], padding="max_length", max_length=length, truncation=True)
    tokenizer.save_pretrained(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    assert state["padding"]["strategy"] == {"Fixed": length}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


def _save_siglip(folder: Path, *, vocabulary: int, resample: int) -> None:
    torch.manual_seed(0)
    config = SiglipConfig(
        vision_config=VISION,
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
    _write(folder / "preprocessor_config.json", {"image_processor_type": name, **settings})


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))
