"""Whatever state a tokenizer was saved in, texts get the tokens and the embeddings that transformers gives them."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import more_checkpoints
import numpy as np
import other_checkpoints
import pytest
from libraries import Ours, embed, tokens
from test_checkpoint import edit
from tokenizers import Tokenizer as Rust
from transformers import AutoTokenizer

from clip_client import InvalidInput

TEXTS = [
    "",
    "a",
    "a photo of a cat",
    "A Photo of a CAT, naïve café",
    "🎂 日本語の 一只猫",
    "a/b <c> d_e",
    "many words " * 60,
    "x" * 400,
]
SMALL = {"vision": {"image_size": 32, "patch_size": 16, "num_hidden_layers": 1}}
PIXELS = {"processor": {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}}

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "clip, eos 2": lambda folder: checkpoints.make(folder, **SMALL, **PIXELS, text={"eos_token_id": 2}),
    "clip": lambda folder: checkpoints.make(folder, **SMALL, **PIXELS),
    "siglip": other_checkpoints.siglip,
    "siglip2": other_checkpoints.siglip2,
    "siglip2 of the hub": more_checkpoints.siglip2,
    "chinese_clip": other_checkpoints.chinese_clip,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each family, with a tokenizer.json."""
    folder = tmp_path_factory.mktemp("tokenizers")
    made = {name: make(folder / name) for name, make in FAMILIES.items()}
    AutoTokenizer.from_pretrained(made["chinese_clip"]).save_pretrained(made["chinese_clip"])
    content = json.loads(Ours.read(made["siglip"]).found.tokenizer_json)
    content["normalizer"] = {"type": "Lowercase"}  # it keeps punctuation, as SigLIP's on the hub does
    (made["siglip"] / "tokenizer.json").write_text(json.dumps(content))
    return made


def state(folder: Path, **changes: Any) -> None:
    """Change what tokenizer.json holds beside the tokenizer."""
    edit(folder / "tokenizer.json", **changes)


def padding(strategy: Any, direction: str = "Right", multiple: int | None = None) -> dict[str, Any]:
    """A padding as tokenizers saves it, with some other token than the checkpoint's."""
    token = {"pad_id": 5, "pad_type_id": 1, "pad_token": "x"}
    return {"padding": {"strategy": strategy, "direction": direction, "pad_to_multiple_of": multiple, **token}}


def truncation(direction: str, length: int = 12, stride: int = 3, strategy: str = "OnlySecond") -> dict[str, Any]:
    """A truncation as tokenizers saves it."""
    return {"truncation": {"direction": direction, "max_length": length, "strategy": strategy, "stride": stride}}


def after_a_padded_call(folder: Path) -> None:
    """Save it as transformers leaves it behind, once it was called."""
    tokenizer = Rust.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))


def more_tokens(folder: Path) -> None:
    """Tokens that only tokenizer_config.json names."""
    known = AutoTokenizer.from_pretrained(folder).added_tokens_decoder
    decoder = {str(number): token.__getstate__() for number, token in known.items()}
    edit(folder / "tokenizer_config.json", added_tokens_decoder=decoder, extra_special_tokens=["x"])


STATES: dict[str, Callable[[Path], None]] = {
    "a padded call": after_a_padded_call,
    "padded to a length": lambda it: state(it, **padding({"Fixed": 64})),
    "padded to a longer one": lambda it: state(it, **padding({"Fixed": 200})),
    "padded to a multiple": lambda it: state(it, **padding({"Fixed": 7}, multiple=8)),
    "padded to the longest": lambda it: state(it, **padding("BatchLongest", multiple=64)),
    "truncated": lambda it: state(it, **truncation("Right")),
    "truncated and padded": lambda it: state(it, **truncation("Right", stride=0), **padding({"Fixed": 52})),
    "truncated at the start": lambda it: state(it, **truncation("Left")),
    "truncation_side": lambda it: edit(it / "tokenizer_config.json", truncation_side="left"),
    "short": lambda it: edit(it / "tokenizer_config.json", model_max_length=16),
    "no tokenizer_config": lambda it: (it / "tokenizer_config.json").write_text('{"model_input_names": ["input_ids"]}'),
    "without lower case": lambda it: edit(it / "tokenizer_config.json", do_lower_case=False),
    "add_prefix_space": lambda it: edit(it / "tokenizer_config.json", add_prefix_space=True),
    "tokens named beside it": more_tokens,
    "no end token asked for": lambda it: edit(it / "tokenizer_config.json", add_eos_token=False, add_bos_token=True),
    "special_tokens_map": lambda it: (it / "special_tokens_map.json").write_text(json.dumps({"cls_token": "a"})),
}
REFUSED = {
    ("chinese_clip", "no tokenizer_config"): 'gives no attention_mask, .* "model_input_names"',
    ("siglip2", "no tokenizer_config"): "the tokenizer can't be read",  # nor by transformers, which looks for spiece.model
    ("siglip2 of the hub", "no tokenizer_config"): "the tokenizer can't be read",
}


def longer(family: str) -> list[pytest.MarkDecorator]:
    """Leave a family to longer runs that has another's tokenizer, and differs in the token that its tower reads."""
    return [pytest.mark.long] if family == "clip, eos 2" else []


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(family, kind, marks=longer(family))
        for family, kind in itertools.product(FAMILIES, STATES)
        if (family, kind) not in REFUSED
    ],
)
def test_tokens_and_embeddings_are_those_of_transformers(
    family: str, kind: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(originals[family], tmp_path / "copy"))
    STATES[kind](folder)
    ours = Ours.read(folder)
    rows = ours.tokens(TEXTS)
    for row, expected in zip(rows, tokens(folder, TEXTS, ours.spec), strict=True):
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert (row[len(expected) :] == ours.spec.pad_token).all()
    cosines = (ours.embed(TEXTS) * embed(folder, TEXTS, ours.spec)).sum(axis=1)
    assert cosines.min() >= 0.9999


@pytest.mark.parametrize(("family", "kind"), REFUSED)
def test_what_would_depend_on_padding_is_refused(family: str, kind: str, originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals[family], tmp_path / "copy"))
    STATES[kind](folder)
    with pytest.raises(InvalidInput, match=REFUSED[family, kind]):
        Ours.read(folder)


PADDED_AT_THE_START: dict[str, Callable[[Path], None]] = {
    "padding_side": lambda it: edit(it / "tokenizer_config.json", padding_side="left"),
    "a padded call": lambda it: state(it, **padding({"Fixed": 64}, "Left")),
    "both sides": lambda it: edit(it / "tokenizer_config.json", padding_side="left", truncation_side="left"),
    "another side than in the file": lambda it: (
        state(it, **padding({"Fixed": 64}, "Left")),
        edit(it / "tokenizer_config.json", padding_side="right"),
    ),
}


@pytest.mark.parametrize("kind", PADDED_AT_THE_START)
@pytest.mark.parametrize("family", [pytest.param(family, marks=longer(family)) for family in FAMILIES])
def test_padding_at_the_start(family: str, kind: str, originals: dict[str, Path], tmp_path: Path) -> None:
    """SigLIP's whole context is padded there; a text of another family by itself isn't padded at all."""
    folder = Path(shutil.copytree(originals[family], tmp_path / "copy"))
    PADDED_AT_THE_START[kind](folder)
    ours = Ours.read(folder)
    rows, expected = ours.tokens(TEXTS), tokens(folder, TEXTS, ours.spec)
    assert [row[: len(one)].tolist() for row, one in zip(rows, expected, strict=True)] == expected
    alone = np.concatenate([embed(folder, [text], ours.spec) for text in TEXTS])
    assert (ours.embed(TEXTS) * alone).sum(axis=1).min() >= 0.9999


def test_a_tokenizer_without_an_end_token(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals["siglip2"], tmp_path / "copy"))
    state(folder, post_processor=None)
    with pytest.raises(InvalidInput, match="adds no end token"):
        Ours.read(folder)


def test_a_long_text_cut_at_its_beginning_keeps_its_end(originals: dict[str, Path], tmp_path: Path) -> None:
    for family in ("clip", "siglip2", "chinese_clip"):
        folder = Path(shutil.copytree(originals[family], tmp_path / family))
        edit(folder / "tokenizer_config.json", truncation_side="left")
        ours = Ours.read(folder)
        texts = ["other words first " * 4_000 + "a photo of a cat", "x" * 60_000 + " and more", "cat " * 30_000, "日" * 20_000]
        for row, expected in zip(ours.tokens(texts), tokens(folder, texts, ours.spec), strict=True):
            np.testing.assert_array_equal(row[: len(expected)], expected)


def test_code_of_a_tokenizers_own_is_never_run(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals["clip"], tmp_path / "copy"))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    edit(folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": [None, "evil.Evil"]})
    edit(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"})
    edit(folder / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    with contextlib.suppress(InvalidInput):
        ours = Ours.read(folder)
        ours.embed(TEXTS)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_tokenizer_class_is_what_transformers_takes_it_for(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals["clip"], tmp_path / "copy"))
    edit(folder / "tokenizer_config.json", tokenizer_class="NobodysTokenizer")
    ours = Ours.read(folder)
    for row, expected in zip(ours.tokens(TEXTS), tokens(folder, TEXTS, ours.spec), strict=True):
        np.testing.assert_array_equal(row[: len(expected)], expected)


def test_a_file_that_gives_the_same_tokens_is_kept_byte_for_byte(originals: dict[str, Path], tmp_path: Path) -> None:
    """Its digest is part of the fingerprint, which must not change with the version of the export."""
    folder = Path(shutil.copytree(originals["clip"], tmp_path / "copy"))
    after_a_padded_call(folder)
    for kept in (folder, originals["clip"]):
        assert Ours.read(kept).found.tokenizer_json == (kept / "tokenizer.json").read_text()
    edit(folder / "tokenizer_config.json", truncation_side="left")
    assert json.loads(Ours.read(folder).found.tokenizer_json)["truncation"]["direction"] == "Left"


def test_the_largest_token_with_eos_2(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals["clip, eos 2"], tmp_path / "copy"))
    edit(folder / "tokenizer_config.json", extra_special_tokens=["<new>"])
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config={**config["text_config"], "vocab_size": checkpoints.END + 2})
    with pytest.raises(InvalidInput, match=r"with eos_token_id 2 .* reads a text at its largest token, .* set eos_token_id to"):
        Ours.read(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_added_tokens_that_no_tower_knows_are_ordinary_text(family: str, originals: dict[str, Path], tmp_path: Path) -> None:
    """The library fails at such a text; here it mustn't take its neighbours along."""
    folder = Path(shutil.copytree(originals[family], tmp_path / "copy"))
    edit(folder / "tokenizer_config.json", extra_special_tokens=["<new>"])
    ours = Ours.read(folder)
    assert (np.linalg.norm(ours.embed(["a <new> cat", "a cat"]), axis=1) > 0.99).all()
    np.testing.assert_array_equal(ours.tokens(["a cat"])[0], Ours.read(originals[family]).tokens(["a cat"])[0])


def test_a_word_begins_where_a_text_does_but_not_behind_an_added_token(originals: dict[str, Path], tmp_path: Path) -> None:
    """Whatever SigLIP drops there: punctuation, white space, the mark of sentencepiece."""
    folder = Path(shutil.copytree(originals["siglip"], tmp_path / "copy"))
    edit(folder / "tokenizer_config.json", extra_special_tokens=["<brand>"])
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config={**config["text_config"], "vocab_size": 91})
    texts = ["</s>!cat", "a </s> <cat", "a<unk> .b", "</s></s>! cat", ". </s> .", "</s> ▁!cat", "! cat", " .▁cat", "</s>"]
    texts += [
        "a <brand>, red",
        "<brand>: a photo",
        "(<brand>)cat (cat)",
        "¨a",
        "</s>¨a",
        "\ufdd0\ufdd1 a\ufdd1",
        "!",
        "İ <brand> İ",
    ]
    ours = Ours.read(folder)
    for text, row, expected in zip(texts, ours.tokens(texts), tokens(folder, texts, ours.spec), strict=True):
        assert row.tolist() == expected, text


def test_a_vocabulary_that_is_too_large(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals["clip"], tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config={**config["text_config"], "vocab_size": 4000})
    with pytest.raises(InvalidInput, match=f"the tokenizer has tokens up to {checkpoints.END}, the text tower 4000 in all"):
        Ours.read(folder)
