"""Emoji of an icon by its name, for the sets that have no code points."""

import re
import unicodedata
from collections.abc import Iterable

from emoji_names import Emoji

SYNONYMS = {
    "2hearts": "two hearts",
    "anger": "anger symbol",
    "angry": "angry face",
    "anguish": "anguished face",
    "aok": "OK hand",
    "astonished": "astonished face",
    "blonde": "person blond hair",
    "boot": "woman's boot",
    "bowing": "person bowing",
    "bullhorn": "loudspeaker",
    "bunny": "rabbit face",
    "bunnyside": "rabbit",
    "catside": "cat",
    "cellphone": "mobile phone",
    "clap": "clapping hands",
    "coldsweat": "downcast face with sweat",
    "confetti": "confetti ball",
    "confounded": "confounded face",
    "confused": "confused face",
    "construct": "construction worker",
    "cop": "police officer",
    "couple": "couple with heart",
    "crazy-face": "zany face",
    "crying": "crying face",
    "dash": "dashing away",
    "devilhorns": "smiling face with horns",
    "disappointed": "disappointed face",
    "dogside": "dog",
    "dragonhead": "dragon face",
    "dragonside": "dragon",
    "evergreen": "evergreen tree",
    "exclamation-mark": "red exclamation mark",
    "expressionless": "expressionless face",
    "fearful": "fearful face",
    "fishcakeswirl": "fish cake with swirl",
    "fistedhand": "oncoming fist",
    "flexbicep": "flexed biceps",
    "flushed": "flushed face",
    "forkknife": "fork and knife",
    "frown": "person frowning",
    "game-dice": "game die",
    "gem": "gem stone",
    "gma": "old woman",
    "gpa": "old man",
    "grimacing": "grimacing face",
    "grineyes": "grinning face with smiling eyes",
    "grinning-cat-face": "grinning cat",
    "grinsquint": "grinning squinting face",
    "grinsweat": "grinning face with sweat",
    "grintears": "face with tears of joy",
    "grinwide": "grinning face with big eyes",
    "halo": "smiling face with halo",
    "hampster": "hamster",
    "hand": "raised hand",
    "hands": "open hands",
    "handup": "person raising hand",
    "heartarrow": "heart with arrow",
    "hearteyes": "smiling face with heart-eyes",
    "heartgreen": "green heart",
    "heartpurple": "purple heart",
    "heartribbon": "heart with ribbon",
    "heartyellow": "yellow heart",
    "heels": "high-heeled shoe",
    "high5": "raising hands",
    "hushed": "hushed face",
    "index": "index pointing up",
    "kissclosedeyes": "kissing face with closed eyes",
    "kisseyes": "kissing face with smiling eyes",
    "kissing": "face blowing a kiss",
    "kissing-cat-face": "kissing cat",
    "lips": "mouth",
    "loudlycrying": "loudly crying face",
    "mahjong": "mahjong red dragon",
    "medicalmask": "face with medical mask",
    "monkeyhear": "hear-no-evil monkey",
    "monkeysee": "see-no-evil monkey",
    "monkeyspeak": "speak-no-evil monkey",
    "mouseside": "mouse",
    "neutral": "neutral face",
    "nogesture": "person gesturing NO",
    "nomouth": "face without mouth",
    "okgesture": "person gesturing OK",
    "openmouth": "face with open mouth",
    "pensive": "pensive face",
    "perservere": "persevering face",
    "pigside": "pig",
    "pigsnout": "pig nose",
    "poo": "pile of poo",
    "pout": "person pouting",
    "pouting": "enraged face",
    "pray": "folded hands",
    "present": "wrapped gift",
    "question-mark": "red question mark",
    "racecar": "racing car",
    "relieved": "relieved face",
    "running": "person running",
    "saggitarius": "Sagittarius",
    "school-backpack": "backpack",
    "screamfear": "face screaming in fear",
    "sign-of-the-horns": "sign of the horns",
    "sleeping": "sleeping face",
    "sleepy": "sleepy face",
    "sleuthspy": "detective",
    "smallfrown": "slightly frowning face",
    "smallsmile": "slightly smiling face",
    "smileeyes": "smiling face with smiling eyes",
    "smiling-cat-face-with-heart-eyes": "smiling cat with heart-eyes",
    "smirk": "smirking face",
    "spurtingwhale": "spouting whale",
    "sweatsplash": "sweat droplets",
    "swimming": "person swimming",
    "tie": "necktie",
    "tigerside": "tiger",
    "tired": "tired face",
    "tongueout": "face with tongue",
    "tongueoutwink": "winking face with tongue",
    "toykotower": "Tokyo tower",
    "triumph": "face with steam from nose",
    "turban": "person wearing turban",
}
"""Names of icons that are neither Unicode's nor another set's."""

NUMBERED = re.compile(r"-[1-9]$")
"""Ends the names of several drawings of one emoji."""


def squeeze(name: str) -> str:
    """Return a name's letters and digits in lower case: sets join words differently."""
    return "".join(letter for letter in name.lower().replace("flag-for-", "flag-") if letter.isalnum())


def codes_by_name(emoji: list[Emoji], icon_names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return code points by squeezed name: the emoji's and its character's own, then `icon_names`, pairs of name and code."""
    characters = {squeeze(unicodedata.name(entry.character[0], "")): entry.code for entry in emoji if "-" not in entry.code}
    named = {squeeze(entry.name): entry.code for entry in emoji}
    others = {squeeze(name): code for name, code in icon_names}
    known = {**others, **characters, **named}
    return known | {squeeze(name): known[squeeze(other)] for name, other in SYNONYMS.items() if squeeze(other) in known}


def find_code(name: str, codes: dict[str, str]) -> str | None:
    """Return the code points of the emoji that an icon shows, None where it is unsure."""
    return codes.get(squeeze(name)) or codes.get(squeeze(NUMBERED.sub("", name)))
