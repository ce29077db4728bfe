"""Generated settings of tokenizers and processors: what comes out equals the library, or is refused with a message.

``CLIPSERVE_FUZZ=5000`` tries so many checkpoints of each sort instead of a few; ``CLIPSERVE_FUZZ_SEED`` other ones.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import checkpoints
import numpy as np
import other_checkpoints
import pytest
from libraries import Ours, embed, pixels, tokens
from transformers import AutoTokenizer, CLIPTokenizer

import pictures
from clip_client.errors import ClipError
from clip_export import families
from clip_export.checkpoints import find as checkpoint_files

EXAMPLES = int(os.environ.get("CLIPSERVE_FUZZ", "40"))
SEED = int(os.environ.get("CLIPSERVE_FUZZ_SEED", "0"))

AWKWARD = pictures.awkward()
FILES = [AWKWARD[kind] for kind in ("odd sides", "palette png with transparency", "1 x n", "smaller than the crop")]
TEXTS = ["", "a cat", "A/B <c> d_e: [SEP] x", "🎂 naïve 日本 İ", "</s> end <eos> [PAD] in it", "many words " * 40, " \n a  b"]


def small_clip(folder: Path) -> Path:
    """A CLIP whose vocabulary is quickly read: characters alone."""
    small = {"image_size": 64, "patch_size": 16, "num_hidden_layers": 1}
    text = {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513}
    square = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    checkpoints.make(folder, vision=small, text=text, processor=square)
    pieces = [*checkpoints.vocabulary(0)[0]][:512]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "clip": small_clip,
    "siglip": other_checkpoints.siglip,
    "siglip2": other_checkpoints.siglip2,
    "chinese_clip": other_checkpoints.chinese_clip,
}
TYPES = (
    "CLIP",
    "Siglip",
    "ViT",
    "DeiT",
    "Blip",
    "Bit",
    "ConvNext",
    "EfficientNet",
    "Levit",
    "PoolFormer",
    "Beit",
    "Owlv2",
    "X",
)
ODD: list[Any] = [
    *(None, True, False, 0, -1, 2, 0.5, 1e999, float("nan"), 10**30, "", "x", "77", "../..", "\ud800", "torch.float99"),
    *([], {}, [None], [1, 2, 3], {"a": 1}, [[]], {"height": "x"}, {"content": None}, {"1": {"content": "x"}}),
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    made = {name: make(folder / name) for name, make in FAMILIES.items()}
    AutoTokenizer.from_pretrained(made["chinese_clip"]).save_pretrained(made["chinese_clip"])
    return made


def copied(original: Path, folder: Path) -> Path:
    """A copy whose weights are shared."""
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(original, folder, copy_function=os.link))


def update(path: Path, changes: dict[str, Any]) -> None:
    content = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
    path.unlink(missing_ok=True)  # it is linked to the original
    path.write_text(json.dumps(content))


def saved_state(random: Random) -> dict[str, Any]:
    """A padding and a truncation in tokenizer.json."""
    side = random.choice(["Right", "Right", "Right", "Left"])
    pad = {
        "pad_id": random.randrange(9),
        "pad_type_id": random.randrange(2),
        "pad_token": random.choice(["x", "[PAD]", "</s>"]),
    }
    strategy = random.choice(["BatchLongest", {"Fixed": random.choice([1, 7, 52, 64, 77, 200])}])
    padding = {"strategy": strategy, "direction": side, "pad_to_multiple_of": random.choice([None, 8, 5]), **pad}
    length = random.choice([4, 12, 64, 512])
    truncation = {
        "direction": random.choice(["Right", "Left"]),
        "max_length": length,
        "strategy": random.choice(["LongestFirst", "OnlyFirst", "OnlySecond"]),
        "stride": random.choice([0, 1]),
    }
    return {"padding": random.choice([None, padding]), "truncation": random.choice([None, truncation])}


def tokenizer_settings(random: Random) -> dict[str, Any]:
    """Some of what tokenizer_config.json may say."""
    choices: dict[str, list[Any]] = {
        "truncation_side": ["left", "right"],
        "padding_side": ["right", "right", "left"],
        "model_max_length": [1, 2, 3, 16, 64, 77, 1e30, None],
        "do_lower_case": [True, False],
        "add_bos_token": [True, False],
        "add_eos_token": [True, False],
        "add_prefix_space": [True, False],
        "strip_accents": [True, False, None],
        "tokenize_chinese_chars": [True, False],
        "split_special_tokens": [False, True],
        "clean_up_tokenization_spaces": [True, False],
        "extra_special_tokens": [["x"], ["cat", "a"], [], {"image_token": "a"}],
        "additional_special_tokens": [["b"], []],
        "pad_token": ["a", "x", "<pad>", "[PAD]", "</s>", {"content": "a", "lstrip": False, "__type": "AddedToken"}],
        "unk_token": ["[UNK]", "<unk>", "a"],
        "model_input_names": [["input_ids"], ["input_ids", "attention_mask"]],
        "tokenizer_class": [
            "CLIPTokenizer",
            "BertTokenizerFast",
            "PreTrainedTokenizerFast",
            "SiglipTokenizer",
            "Nobodys",
            None,
        ],
        "added_tokens_decoder": [{"5": {"content": "a", "special": True}}, {"7": {"content": "cat", "lstrip": True}}],
    }
    return {name: random.choice(choices[name]) for name in random.sample(sorted(choices), random.randrange(4))}


def processor_settings(random: Random) -> dict[str, Any]:
    """Some of what preprocessor_config.json may say."""
    sizes = [
        64,
        {"shortest_edge": 64},
        {"height": 64, "width": 64},
        [64, 64],
        {"shortest_edge": 90},
        {"height": 80, "width": 80},
    ]
    choices: dict[str, list[Any]] = {
        "image_processor_type": [
            name + random.choice(["ImageProcessor", "ImageProcessorFast", "FeatureExtractor"]) for name in TYPES
        ],
        "size": [*sizes, {"longest_edge": 64}, {"height": 64, "width": 32}],
        "crop_size": [64, {"height": 64, "width": 64}, {"shortest_edge": 64}],
        "do_center_crop": [True, False],
        "resample": [0, 1, 2, 3, 4, 5, 7, "bicubic"],
        "do_normalize": [True, False],
        "do_rescale": [True, False],
        "rescale_factor": [1 / 255, 1 / 127.5, 1, 0],
        "image_mean": [[0.5] * 3, [0.1, 0.2, 0.3], 0.5, [1], "x"],
        "image_std": [[0.5] * 3, [0.1, 0.2, 0.3], 0.5, [0, 0, 0]],
        "do_convert_rgb": [True, False],
        "do_pad": [True, False],
        "pad_size": [{"height": 64, "width": 64}, {"height": 70, "width": 70}],
        "crop_pct": [0.5, 0.875, 1.0],
        "rescale_offset": [True, False],
        "include_top": [True, False],
        "do_resize": [True, True, False],
        "default_to_square": [True, False],
    }
    return {name: random.choice(choices[name]) for name in random.sample(sorted(choices), random.randrange(1, 5))}


def generated(number: int, originals: dict[str, Path], folder: Path) -> str:
    """Make one checkpoint and hold it against its library; returns what came of it."""
    random = Random(f"{SEED} {number}")
    name = random.choice(sorted(FAMILIES))
    copied(originals[name], folder)
    settings = tokenizer_settings(random), processor_settings(random), saved_state(random)
    changed = random.choice([(0,), (1,), (2,), (0, 2), (0, 1, 2)])
    for part, file in enumerate(("tokenizer_config.json", "preprocessor_config.json", "tokenizer.json")):
        if part in changed and (folder / file).exists():
            update(folder / file, settings[part])
    told = f"example {number} of seed {SEED}: {name} {[settings[part] for part in changed]}"
    try:
        ours = Ours.read(folder)
    except ClipError as refused:
        return "refused" if str(refused) else "refused without a word"
    vocabulary = families.of(ours.found).config(ours.found).text_config.vocab_size
    for text, row, expected in zip(TEXTS, ours.tokens(TEXTS), tokens(folder, TEXTS, ours.spec), strict=True):
        if max(expected) < vocabulary:  # else the library has no embedding of it
            assert row[: len(expected)].tolist() == expected, (told, text)
            assert (row[len(expected) :] == ours.spec.pad_token).all(), (told, text)
    np.testing.assert_allclose(ours.pixels(FILES), pixels(folder, FILES), atol=5e-5, rtol=2e-5, err_msg=told)
    known = [text for text, row in zip(TEXTS, tokens(folder, TEXTS, ours.spec), strict=True) if max(row) < vocabulary]
    if number % 8 == 0 and known:
        assert (ours.embed(known) * embed(folder, known, ours.spec)).sum(axis=1).min() >= 0.9999, told
    return "equal"


def odd(number: int, originals: dict[str, Path], folder: Path) -> str:
    """Put some value into some field of one checkpoint and read it; returns what came of it."""
    random = Random(f"odd {SEED} {number}")
    name = random.choice(["siglip", "siglip2", "chinese_clip"] * 3 + ["clip"])
    copied(originals[name], folder)
    file = folder / random.choice(["config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"])
    content = json.loads(file.read_text()) if file.exists() else {}
    place, value = random.choice(places(content)), random.choice(ODD)
    file.unlink(missing_ok=True)
    file.write_bytes(written(put(content, place, value), random))
    told = f"example {number} of seed {SEED}: {name}/{file.name} {place} = {value!r}"
    try:
        found = checkpoint_files.find(str(folder), None)
        family = families.of(found)
        spec = family.spec(found, "clip")
        if number % 4 == 0:
            family.towers(found, spec)
        return "read"
    except ClipError as refused:
        return "refused" if str(refused) else "refused without a word"
    except BaseException as problem:
        raise AssertionError(told) from problem


@pytest.mark.parametrize("example", [generated, odd], ids=["settings", "odd values"])
def test_a_generated_checkpoint_is_the_librarys_or_refused(
    example: Callable[[int, dict[str, Path], Path], str], originals: dict[str, Path], tmp_path: Path
) -> None:
    """In no case does anything but the project's own errors come out."""
    outcomes = [example(number, originals, tmp_path / "copy") for number in range(EXAMPLES)]
    assert min(outcomes.count("refused"), EXAMPLES - outcomes.count("refused")) >= EXAMPLES // 20


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of the values in a JSON object, of long lists only the first."""
    inside = content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    return [path, *(place for key, value in list(inside)[:60] for place in places(value, (*path, key)))]


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The object with another value at a place."""
    if not path:
        return value
    key, *rest = path
    if isinstance(content, list):
        return [put(old, tuple(rest), value) if n == key else old for n, old in enumerate(content)]
    return {**content, key: put(content[key], tuple(rest), value)}


def written(content: Any, random: Random) -> bytes:
    """JSON as people write it, now and then in another encoding or cut off."""
    text = json.dumps(content)
    whole = random.choice(
        [text.encode()] * 6 + [b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), b"", b"\xff" + text.encode()]
    )
    return whole[: random.randrange(1, 200)] if random.random() < 0.05 else whole
