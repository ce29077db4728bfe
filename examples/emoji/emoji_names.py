"""Names of emoji from Unicode, keywords from emojilib, and the held-out keywords."""

import json
import random
from dataclasses import dataclass

from packages import EMOJILIB, UNICODE, open_package

HELD_OUT_SHARE = 0.1
HELD_OUT_SEED = 2024
VARIATION_SELECTOR = "\ufe0f"


@dataclass(frozen=True)
class Emoji:
    """One emoji without skin tone; `held_out` lists the keywords that training never sees."""

    character: str
    name: str
    keywords: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """Code points in hexadecimal, as in `1f468-200d-1f373`, without variation selectors."""
        return code_of(self.character)

    @property
    def seen(self) -> tuple[str, ...]:
        """The keywords that training may see."""
        return tuple(keyword for keyword in self.keywords if keyword not in self.held_out)


def code_of(character: str) -> str:
    """Return the code points of an emoji in hexadecimal, joined by dashes, without variation selectors."""
    return "-".join(f"{ord(point):x}" for point in character if point != VARIATION_SELECTOR)


def plain_code(code: str) -> str:
    """Return a file name's code points in the form of `code_of`: no leading zeros, no variation selectors."""
    return code_of("".join(chr(int(point, 16)) for point in code.split("-")))


def load_emoji() -> list[Emoji]:
    """Return every emoji of the Unicode list, in its order, with a seeded tenth of its keywords held out."""
    with open_package(UNICODE) as unicode, open_package(EMOJILIB) as emojilib:
        listed = json.load(unicode.extractfile("package/data-by-emoji.json"))
        keywords = json.load(emojilib.extractfile("package/dist/emoji-en-US.json"))
    return hold_out(
        [
            Emoji(character, entry["name"], clean_keywords(entry["name"], keywords[character]))
            for character, entry in listed.items()
        ]
    )


def clean_keywords(name: str, keywords: list[str]) -> tuple[str, ...]:
    """Return keywords in plain lower case, without those that only repeat words of the name."""
    known = set(words_of(name))
    plain = dict.fromkeys(" ".join(words_of(keyword)) for keyword in keywords)
    return tuple(keyword for keyword in plain if set(keyword.split()) - known)


def words_of(text: str) -> list[str]:
    """Return the words of a name or keyword, lower case, without punctuation."""
    spaced = "".join(letter if letter.isalnum() or letter in "'&" else " " for letter in text.lower())
    return spaced.split()


def hold_out(emoji: list[Emoji]) -> list[Emoji]:
    """Mark a seeded tenth of all keyword-emoji pairs as held out."""
    pairs = [(entry.character, keyword) for entry in emoji for keyword in entry.keywords]
    source = random.Random(HELD_OUT_SEED)  # noqa: S311 - a repeatable draw
    chosen = source.sample(pairs, round(HELD_OUT_SHARE * len(pairs)))
    held_out: dict[str, list[str]] = {entry.character: [] for entry in emoji}
    for character, keyword in chosen:
        held_out[character].append(keyword)
    return [Emoji(e.character, e.name, e.keywords, tuple(sorted(held_out[e.character]))) for e in emoji]
