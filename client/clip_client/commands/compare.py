"""``clipserve compare``: a picture and texts, and how well each text fits."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from clip_client import help_texts
from clip_client.clip import Clip
from clip_client.commands.model_options import add_model_options, opened
from clip_client.commands.output import Ledger, Rows
from clip_client.commands.picture_names import STDIN, picture_in_stdin
from clip_client.comparison import Floats, compared
from clip_client.errors import InvalidInput
from clip_client.file_names import source_path


def main(argv: Sequence[str] | None = None) -> int:
    """Print each text's probability and cosine, the best first; return 1 if one is left out, or the picture can't be read."""
    arguments = parser(argv).parse_args(argv)
    rows, ledger = Rows({"probability": 11, "cosine": 6, "text": 0}, as_json=arguments.json), Ledger()
    with opened(arguments) as clip:
        spec = clip.spec  # no fault of the picture, if there is none
        image = _embedded(clip, arguments.image)
        texts = clip.embed_text(arguments.texts, on_error="none")
        good = [n for n, text in enumerate(texts) if text is not None]
        prompts = np.asarray([texts[n] for n in good], np.float32).reshape(len(good), len(image))
        comparison = compared(image, prompts, spec)
    for at in np.argsort(-comparison.cosines, kind="stable"):
        text = arguments.texts[good[at]]
        probability, cosine = float(comparison.probabilities[at]), float(comparison.cosines[at])
        rows.write({"text": text, "probability": probability, "cosine": cosine}, (probability, cosine, text))
        ledger.taken += 1
    for n, reason in texts.errors.items():
        ledger.leave_out(f"text {n} ({arguments.texts[n]})", reason)
    return ledger.close("compared") if ledger.left_out else 0


def parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        prog="clipserve compare",
        description="Compare a picture with texts: the probability of each among them, and its cosine. The best comes first.",
        formatter_class=help_texts.Formatter,
    )
    made.add_argument("image", help="file or URL of a picture; - for standard input")
    made.add_argument("texts", nargs="+", metavar="text", help="what the picture may show")
    made.add_argument("--json", action="store_true", help="for machines: an object a line")
    add_model_options(made)
    help_texts.add_version(made)
    help_texts.add_examples(
        made,
        'clipserve compare cat.jpg "a photo of a cat" "a photo of a dog"',
        'clipserve compare https://example.com/cat.jpg "a cat" "a dog" --json',
        'clipserve compare cat.jpg "a cat" "a dog" --local model_repository',
    )
    return made


def _embedded(clip: Clip, image: str) -> Floats:
    """Return the embedding of the picture, float32 [D]; an error names it."""
    try:
        return clip.embed_image(picture_in_stdin() if image == STDIN else source_path(image))
    except InvalidInput as problem:
        name = "standard input" if image == STDIN else image
        raise InvalidInput(str(problem) if name in str(problem) else f"{name}: {problem}") from problem
