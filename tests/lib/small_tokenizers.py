"""Small tokenizers of the kinds that open_clip's configs name, with the real ones' classes and settings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import other_checkpoints
import sentencepiece
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import BertTokenizer, GemmaTokenizer, NllbTokenizer, RobertaTokenizer, T5Tokenizer


def write(name: str, folder: Path) -> int:
    """Write a tokenizer like the one of that name on the hub; returns the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    start = next(start for start in KINDS if start in name)
    return KINDS[start](folder)


def bert(folder: Path) -> int:
    """``bert-base-uncased``."""
    size = other_checkpoints.write_wordpieces(folder)
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return size


def roberta(folder: Path) -> int:
    """``roberta-base``: byte pairs with spaces."""
    learnt = Tokenizer(BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    learnt.train_from_iterator(other_checkpoints.CORPUS, trainer)
    learned = json.loads(learnt.to_str())["model"]
    tokenizer = RobertaTokenizer(vocab=learned["vocab"], merges=[tuple(pair) for pair in learned["merges"]])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def t5(folder: Path) -> int:
    """timm's SigLIP: T5's pieces, padded with the end token."""
    tokenizer = T5Tokenizer(vocab=_pieces(), extra_ids=0, pad_token="</s>", model_max_length=64)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def mt5(folder: Path) -> int:
    """``google/mt5-base``: a sentencepiece model alone, and the extra tokens in its settings."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(other_checkpoints.CORPUS * 3), model_writer=model, vocab_size=95, model_type="unigram",
        character_coverage=0.9999, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    settings = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 0,
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return 97


def gemma(folder: Path) -> int:
    """timm's SigLIP 2: Gemma's byte pairs, with an end token alone."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary, merges = _byte_pairs(special)
    shape = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right"}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, **shape)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def nllb(folder: Path) -> int:
    """``facebook/nllb-200``: pieces behind a language."""
    vocabulary, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=merges, src_lang="eng_Latn", model_max_length=1024)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _byte_pairs(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Learn merges of characters, with spaces as sentencepiece writes them."""
    learnt = Tokenizer(BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    learnt.train_from_iterator(other_checkpoints.CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    learned = json.loads(learnt.to_str())["model"]
    return learned["vocab"], [tuple(pair) for pair in learned["merges"]]


def _pieces() -> list[tuple[str, float]]:
    characters = sorted({character for text in other_checkpoints.CORPUS for character in text.lower() if character != " "})
    first = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return [*first, *((piece, -3.0) for piece in characters), ("▁a", -1.5), ("cat", -2.0)]


KINDS = {
    "bert-base-uncased": bert,
    "nllb": nllb,
    "mt5": mt5,
    "SigLIP2": gemma,
    "SigLIP": t5,
    "xlm": other_checkpoints.write_xlm_roberta,
    "roberta": roberta,
}
"""Functions by a part of the names."""
