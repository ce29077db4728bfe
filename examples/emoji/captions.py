"""Captions to train on: names, templates around them, keywords; as tokens."""

import random
import unicodedata

import torch
from torch import Generator, Tensor

from bpe import train_tokenizer
from emoji_names import Emoji

MERGE_COUNT = 3000
CONTEXT_LENGTH = 24
TEMPLATES = (
    "a {}",
    "an emoji of a {}",
    "a picture of a {}",
    "a drawing of {}",
    "the {}",
    "{} emoji",
    "{} icon",
    "an icon of {}",
    "a photo of a {}",
    "a cartoon {}",
)


class Captions:
    """Draws captions of emoji; held-out keywords never occur, in captions or in what the tokenizer learns from."""

    def __init__(self, emoji: list[Emoji]) -> None:
        self.emoji = emoji
        self.tokenizer = train_tokenizer(seen_texts(emoji), MERGE_COUNT, CONTEXT_LENGTH)

    def draw(self, emoji: Tensor, generator: Generator) -> Tensor:
        """Draw one random caption for each position in the list of emoji: int64 [B, L], padded to the longest."""
        source = random.Random(int(torch.randint(2**31, (), generator=generator)))  # noqa: S311 - a repeatable draw
        texts = [draw_caption(self.emoji[position], source) for position in emoji.tolist()]
        return self.tokenizer(texts, padding=True, truncation=True, max_length=CONTEXT_LENGTH, return_tensors="pt").input_ids


def seen_texts(emoji: list[Emoji]) -> list[str]:
    """Return every text that training may see, once."""
    names = [spelling for entry in emoji for spelling in (entry.name, without_accents(entry.name))]
    return [*names, *TEMPLATES, *(keyword for entry in emoji for keyword in entry.seen)]


def draw_caption(emoji: Emoji, source: random.Random) -> str:
    """Draw a name, a name in a template, keywords, or both."""
    name = emoji.name if source.random() < 0.5 else without_accents(emoji.name)
    kind = source.random()
    if kind < 0.4 or not emoji.seen:
        return name
    if kind < 0.55:
        return source.choice(TEMPLATES).format(name)
    keywords = source.sample(emoji.seen, min(source.randint(1, 3), len(emoji.seen)))
    if kind < 0.85:
        return " ".join(keywords)
    return " ".join(source.sample([name, keywords[0]], 2))


def without_accents(text: str) -> str:
    """Return the same text as typed on a plain keyboard."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
