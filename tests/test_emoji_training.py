"""The emoji example: training repeats itself and resumes, scoring is right, nothing held out leaks. Needs no network."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parent.parent / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))

from safetensors.torch import load_file  # noqa: E402

from captions import Captions, seen_texts  # noqa: E402
from drawings import SIZE, STYLES, Drawings  # noqa: E402
from emoji_names import Emoji, clean_keywords, hold_out, plain_code  # noqa: E402
from evaluate import keyword_task, load_collection, recall  # noqa: E402
from icon_names import codes_by_name, find_code  # noqa: E402
from muon import Muon, orthogonal  # noqa: E402
from packages import Package, PackageError, _verify  # noqa: E402
from towers import PRECISION, embed_images, grid_positions, new_model, shift_by  # noqa: E402
from train import Options, Training, train  # noqa: E402

FEW = Options(steps=24, seed=7, emoji_per_step=4, whole_steps=6, save_every=5)
WORDS = ("red", "blue", "round", "small", "happy", "old", "cat", "hat", "car", "sea")


@pytest.fixture(scope="module")
def emoji() -> list[Emoji]:
    """Twelve made-up emoji."""
    source = random.Random(0)
    return [Emoji(chr(0x1F600 + i), f"{source.choice(WORDS)} thing {i}", tuple(WORDS[i % 5 : i % 5 + 4])) for i in range(12)]


@pytest.fixture(scope="module")
def drawings(emoji: list[Emoji]) -> Drawings:
    """Noise in three styles for each emoji."""
    pixels = np.random.default_rng(0).integers(0, 256, (3 * len(emoji), SIZE, SIZE, 4), dtype=np.uint8)
    return Drawings(pixels, np.repeat(np.arange(len(emoji)), 3), np.tile(np.arange(3), len(emoji)))


@pytest.fixture(scope="module")
def trained(emoji: list[Emoji], drawings: Drawings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint trained without a stop."""
    folder = tmp_path_factory.mktemp("trained")
    train(emoji, drawings, FEW, folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.long
def test_two_trainings_end_in_the_same_weights(trained, emoji, drawings, tmp_path):
    train(emoji, drawings, FEW, tmp_path)
    assert_same_weights(trained, tmp_path)


def test_another_seed_ends_in_other_weights(emoji, drawings, tmp_path):
    train(emoji, drawings, Options(steps=2, seed=1, emoji_per_step=4), tmp_path / "a")
    train(emoji, drawings, Options(steps=2, seed=2, emoji_per_step=4), tmp_path / "b")
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert not torch.equal(first["visual_projection.weight"], second["visual_projection.weight"])


def test_a_stopped_training_goes_on_to_the_same_weights(trained, emoji, drawings, tmp_path, monkeypatch):
    stop_after(13, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(emoji, drawings, FEW, tmp_path)
    monkeypatch.undo()
    train(emoji, drawings, FEW, tmp_path)
    assert_same_weights(trained, tmp_path)


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training be interrupted at the start of step `steps`."""
    whole_step = Training.step

    def interrupted(training: Training, position: int) -> dict[str, float]:
        if position == steps:
            raise KeyboardInterrupt
        return whole_step(training, position)

    monkeypatch.setattr(Training, "step", interrupted)


def test_other_options_do_not_resume(emoji, drawings, tmp_path):
    train(emoji, drawings, Options(steps=2, emoji_per_step=4, save_every=1), tmp_path)
    with pytest.raises(SystemExit, match="give the same options or another --output"):
        train(emoji, drawings, Options(steps=3, emoji_per_step=4, save_every=1), tmp_path)


def test_a_training_that_starts_over_the_same_folder_keeps_its_end(emoji, drawings, tmp_path):
    train(emoji, drawings, Options(steps=2, emoji_per_step=4, save_every=1), tmp_path)
    before = weights(tmp_path)
    train(emoji, drawings, Options(steps=2, emoji_per_step=4, save_every=1), tmp_path)
    assert all(torch.equal(before[name], weight) for name, weight in weights(tmp_path).items())


def test_tokenizer_writes_any_text_between_start_and_end(emoji):
    tokenizer = Captions(emoji).tokenizer
    ids = tokenizer("Ein Gruß, 你好 🎂").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_the_tokenizer_is_the_same_in_every_process():
    program = (
        f"import sys; sys.path.insert(0, {str(EXAMPLE)!r})\n"
        "from bpe import train_tokenizer\n"
        f"print(sorted(train_tokenizer({WORDS!r}, 40, 24).get_vocab().items()))"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(3)]
    assert len({run.stdout for run in runs}) == 1


def test_captions_never_hold_a_held_out_keyword():
    hidden = Emoji("🎂", "birthday cake", ("dessert", "pastry"), held_out=("pastry",))
    assert "pastry" not in seen_texts([hidden])
    assert hidden.seen == ("dessert",)


def test_a_tenth_of_the_pairs_is_held_out_and_always_the_same():
    emoji = [Emoji(chr(0x1F600 + i), f"thing {i}", WORDS) for i in range(20)]
    assert hold_out(emoji) == hold_out(emoji)
    assert sum(len(one.held_out) for one in hold_out(emoji)) == 20


def test_keywords_that_repeat_the_name_are_left_out():
    assert clean_keywords("birthday cake", ["birthday_cake", "cake", "Sweet", "sweet", ":D"]) == ("sweet", "d")


def test_codes_have_one_spelling():
    assert plain_code("0023-FE0F-20E3") == "23-20e3" == plain_code("23-20e3")


def test_recall_counts_the_targets_that_are_near_enough():
    items = np.eye(4, dtype=np.float32)
    queries = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0]], dtype=np.float32)
    assert recall(queries, items, np.array([0, 0]), 1) == 0.5
    assert recall(queries, items, np.array([0, 0]), 2) == 1.0


def test_recall_leaves_ignored_items_out():
    items = np.eye(2, dtype=np.float32)
    query = np.array([[0.6, 0.8]], dtype=np.float32)
    assert recall(query, items, np.array([0]), 1, ignored=np.array([[False, True]])) == 1.0


@pytest.mark.parametrize("broken", [np.zeros((4, 3)), np.ones((4, 3)), np.full((4, 3), np.nan)])
def test_embeddings_that_tell_nothing_apart_find_nothing(broken):
    assert recall(broken, broken, np.arange(4), 1) == 0.0


def test_two_pictures_that_are_the_same_are_both_found():
    items = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert recall(items, items, np.arange(3), 1) == 1.0


def test_the_bundled_collection_fits_together():
    collection = load_collection()
    assert len(collection.pictures) == len(collection.captions) == len(collection.keywords) > 1850
    assert all(set(hidden) <= set(every) for hidden, every in zip(collection.held_out, collection.keywords, strict=True))
    assert collection.query_targets.max() < len(collection.pictures)
    task = keyword_task(collection)
    assert not task.known[np.arange(len(task.targets)), task.targets].any()


@pytest.mark.parametrize(
    ("icon", "character"),
    [
        ("birthday-cake", "🎂"),
        ("birthday-cake-2", "🎂"),
        ("blackuniversalrecyclingsymbol", "♻"),
        ("tears-of-joy", "😂"),
        ("flag-for-france", "🇫🇷"),
        ("toykotower", "🗼"),
    ],
)
def test_icons_are_known_by_their_names(icon, character):
    named = {
        "🎂": "birthday cake",
        "♻": "recycling symbol",
        "😂": "face with tears of joy",
        "🇫🇷": "flag France",
        "🗼": "Tokyo tower",
    }
    emoji = [Emoji(character, name, ()) for character, name in named.items()]
    codes = codes_by_name(emoji, [("tears-of-joy", "1f602")])
    assert find_code(icon, codes) == Emoji(character, "", ()).code


def test_icons_of_other_things_are_left_out():
    assert find_code("fox-crying", codes_by_name([Emoji("🎂", "birthday cake", ())], [])) is None


def test_positions_shifted_by_an_offset_are_those_of_the_patch_there():
    positions = grid_positions()[1:].view(8, 8, -1)
    below = positions[:-1] @ shift_by((1, 0)).T
    assert torch.allclose(below, positions[1:], atol=1e-5)


def test_a_new_model_looks_at_neighbouring_patches(emoji):
    torch.manual_seed(0)
    tower = new_model(Captions(emoji).tokenizer).vision_model
    tower.set_attn_implementation("eager")
    attention = tower(torch.rand(1, 3, 64, 64), output_attentions=True).attentions[0][0]  # [heads, 1 + P, 1 + P]
    row, column = 3, 4
    seen = attention[:9, 1 + 8 * row + column].argmax(-1) - 1
    assert seen.tolist() == [8 * (row + down) + column + right for down in (-1, 0, 1) for right in (-1, 0, 1)]


def test_a_whole_picture_is_embedded_as_transformers_does(emoji):
    torch.manual_seed(0)
    model = new_model(Captions(emoji).tokenizer)
    images = torch.rand(3, 3, 64, 64)
    expected = model.get_image_features(pixel_values=(images - 0.5) / 0.5).pooler_output
    with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION is torch.bfloat16):  # as in training
        embeddings = embed_images(model, images, 1.0, torch.Generator()).float()
    assert torch.allclose(embeddings, expected, atol=0.02, rtol=0.004)  # bfloat16's own rounding is 0.004 of a number
    assert torch.cosine_similarity(embeddings, expected).min() > 0.9999


def test_muon_steps_like_torchs():
    torch.manual_seed(0)
    ours, torchs = (torch.nn.Parameter(start) for start in torch.randn(1, 24, 8).repeat(2, 1, 1))
    mine = Muon([ours], 0.05, torch.bfloat16)
    reference = torch.optim.Muon([torchs], weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for optimizer in (mine, reference):
        optimizer.param_groups[0]["lr"] = 0.01
    for gradient in torch.randn(5, 24, 8):
        ours.grad, torchs.grad = gradient, gradient.clone()
        mine.step()
        reference.step()
        assert torch.allclose(ours, torchs, atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 6), (12, 4), (4, 12)])
def test_an_orthogonal_matrix_has_singular_values_of_about_one(shape):
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_noto_is_no_training_style():
    assert not [style for style in STYLES if "noto" in style]


def test_a_tarball_with_another_hash_is_refused(tmp_path):
    path = tmp_path / "thing-1.0.0.tgz"
    path.write_bytes(b"not it")
    with pytest.raises(PackageError, match="expected AAAA: not the pinned package"):
        _verify(Package("thing", "1.0.0", "AAAA"), path)
