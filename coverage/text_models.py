"""Small tokenizers and text models of transformers' kinds, as repositories of dual encoders have them or name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import other_checkpoints
import transformers
from other_checkpoints import CORPUS, SMALL
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

from recipe import write

_ROBERTA = {"max_position_embeddings": 514, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
_FIRST = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]


def write_text_encoder(folder: Path, kind: str) -> None:
    """Write configuration and tokenizer of a text model, whose weights nobody asks for."""
    folder.mkdir(parents=True)
    size = write_tokenizer(folder, kind)
    _CONFIGS[kind](size).save_pretrained(folder)


def write_tokenizer(folder: Path, kind: str) -> int:
    """Write a tokenizer; return the size of its vocabulary."""
    return _TOKENIZERS[kind](folder)


def _t5(folder: Path) -> int:
    """T5's, which timm's repositories of SigLIP have."""
    characters = sorted({character for text in CORPUS for character in text.lower() if character != " "})
    vocabulary = [*_FIRST, *((piece, -3.0) for piece in characters), ("▁a", -1.5), ("cat", -2.0)]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, pad_token="</s>", model_max_length=64)  # noqa: S106
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _gemma(folder: Path) -> int:
    """Gemma's, saved after a call that padded to 64 tokens and cut there, as the repositories of SigLIP 2 have it."""
    learnt = Tokenizer(BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))  # noqa: S106
    learnt.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    learnt.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))])
    learnt.train_from_iterator(CORPUS, trainer)
    learnt.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    state = json.loads(learnt.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    learnt = Tokenizer.from_str(json.dumps(state))
    learnt.enable_truncation(64)
    learnt.enable_padding(length=64, pad_id=0, pad_token="<pad>")  # noqa: S106
    learnt.save(str(folder / "tokenizer.json"))
    names = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    settings = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right", "tokenizer_class": "GemmaTokenizer"}
    write(folder / "tokenizer_config.json", {**names, **settings, "model_input_names": ["input_ids"], "model_max_length": 64})
    return int(learnt.get_vocab_size())


def _bert(folder: Path) -> int:
    size = other_checkpoints.write_wordpieces(folder)
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return size


def _nllb(folder: Path) -> int:
    pieces = sorted({character for text in CORPUS for character in text.replace(" ", "▁")})
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary = [*first, *((piece, -2.0) for piece in pieces), ("▁a", -1.0)]
    tokenizer = transformers.NllbTokenizer(vocab=vocabulary, src_lang="eng_Latn")
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _roberta(folder: Path) -> int:
    """RoBERTa's byte-pair tokenizer, learnt from a few texts."""
    learnt = Tokenizer(BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learnt.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet))
    model = json.loads(learnt.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = transformers.RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=512)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _clip(folder: Path) -> int:
    checkpoints.write_tokenizer(folder, "<|endoftext|>", checkpoints.MERGES)
    return checkpoints.tokens(checkpoints.MERGES)


def _m2m_100(size: int) -> Any:
    parts = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    return transformers.M2M100Config(d_model=64, vocab_size=size, encoder_ffn_dim=64, decoder_ffn_dim=64, **parts)


_TOKENIZERS: dict[str, Callable[[Path], int]] = {
    "t5": _t5, "gemma": _gemma, "bert": _bert, "nllb": _nllb, "roberta": _roberta, "clip": _clip,
    "xlm": other_checkpoints.write_xlm_roberta,
}  # fmt: skip
_CONFIGS: dict[str, Callable[[int], Any]] = {
    "bert": lambda size: transformers.BertConfig(**SMALL, vocab_size=size),
    "roberta": lambda size: transformers.RobertaConfig(**SMALL, **_ROBERTA, vocab_size=size),
    "xlm": lambda size: transformers.XLMRobertaConfig(**SMALL, **_ROBERTA, vocab_size=size),
    "t5": lambda size: transformers.MT5Config(d_model=64, d_kv=16, d_ff=64, num_layers=2, num_heads=4, vocab_size=size),
    "nllb": _m2m_100,
}
