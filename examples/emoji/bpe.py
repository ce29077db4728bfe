"""A small byte-pair tokenizer in CLIP's conventions, learned from the words that training sees."""

import json
from collections.abc import Iterable

from tokenizers import models, pre_tokenizers, trainers
from transformers import CLIPTokenizerFast

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"


def train_tokenizer(texts: Iterable[str], merge_count: int, context_length: int) -> CLIPTokenizerFast:
    """Learn at most `merge_count` merges from texts.

    The vocabulary is laid out as CLIP's: bytes, bytes that end a word, merges, start token, end token. So every
    text can be written, and the end token has the highest id.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(texts, alphabet, merge_count)
    pieces = [*alphabet, *(byte + SUFFIX for byte in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizerFast(vocab=vocabulary, merges=merges, model_max_length=context_length)


def learn_merges(texts: Iterable[str], alphabet: list[str], merge_count: int) -> list[tuple[str, str]]:
    """Return the most frequent pairs of pieces, most frequent first, as CLIP's own splitting sees the texts."""
    learner = CLIPTokenizerFast().backend_tokenizer
    learner.model = models.BPE(end_of_word_suffix=SUFFIX, continuing_subword_prefix="")
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merge_count,
        initial_alphabet=alphabet,
        special_tokens=[byte + SUFFIX for byte in alphabet],  # or they are numbered anew in each process, and ties fall anew
        end_of_word_suffix=SUFFIX,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges[:merge_count]]
