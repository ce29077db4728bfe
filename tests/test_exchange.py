"""An exchange of models that is killed at any step leaves the old ones or the new ones, never both."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from repositories import other_checkpoint

from clip_client import ContractMismatch, InvalidInput, ModelSpec, model_exchange, repository_check
from clip_client.repository_check import check
from clip_export.publish import publish

MODELS = ("clip_image", "clip_image_encoder", "clip_image_preprocess", "clip_text", "clip_text_encoder", "clip_text_tokenize")


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A repository of six models of one checkpoint."""
    return Path(shutil.copytree(repository, tmp_path / "model_repository"))


@pytest.fixture
def others(own: Path, spec: ModelSpec, tmp_path: Path) -> Path:
    """The same six of another checkpoint."""
    return other_checkpoint(own, tmp_path / "others", spec)


def fingerprints(repository: Path) -> set[str]:
    return {ModelSpec.load(repository / model / "1" / "spec.json").fingerprint for model in MODELS}


def published(others: Path, repository: Path) -> None:
    """Publish the others as an export does, with its own steps around the models' files."""
    with FileLock(model_exchange.lock_file(repository)), publish._staging(repository) as staging:
        new = model_exchange.folder_of_new(staging)
        for model in others.iterdir():
            shutil.copytree(model, new / model.name)
        model_exchange.exchange(staging, repository)


def killed_at(step: int, action: Callable[[], None]) -> bool:
    """Run it in a process that is killed before the given change of the file system; False if it ended before."""
    process = os.fork()
    if not process:
        kill_before(step)
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def kill_before(step: int) -> None:
    left = iter(range(step))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if changes and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.mark.long
def test_a_kill_at_every_step_leaves_one_set_or_the_other(own: Path, others: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(own, tmp_path / "kept")
    old, new = fingerprints(own), fingerprints(others)
    seen, step = [], 0
    while killed_at(step, lambda: published(others, own)):
        assert check(own) == ["clip"]
        seen.append(fingerprints(own))
        assert not list(own.parent.glob(".model_repository-staging-*"))
        shutil.rmtree(own)
        shutil.copytree(kept, own)
        step += 1
    assert step > 50
    assert seen == sorted(seen, key=[old, new].index)  # the old ones up to some step, from there on the new ones
    assert old in seen
    assert new in seen


def test_a_kill_while_a_killed_exchange_is_ended_does_no_harm(own: Path, others: Path, tmp_path: Path) -> None:
    new = fingerprints(others)
    staging = tmp_path / ".model_repository-staging-dead"
    staging.mkdir()
    shutil.copytree(others, model_exchange.folder_of_new(staging), dirs_exist_ok=True)
    (staging / "begun").touch()
    for step in range(0, 40, 3):
        killed_at(step, lambda: model_exchange.finish(own))
    assert check(own) == ["clip"]
    assert fingerprints(own) == new


@pytest.fixture
def half(own: Path, others: Path) -> Path:
    """A repository whose exchange was killed where another process has to end it."""
    for step in range(0, 200, 4):
        if killed_at(step, lambda: published(others, own)) and model_exchange.unfinished(own):
            return own
    raise AssertionError("no kill left an exchange unfinished")


def test_the_next_export_ends_what_was_killed(half: Path, others: Path) -> None:
    with publish._staging(half):
        assert fingerprints(half) == fingerprints(others)
    assert check(half) == ["clip"]


def test_a_repository_that_cannot_be_mended_is_refused(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(repository: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_exchange, "finish", read_only)
    with pytest.raises(InvalidInput, match=r"was killed in the midst .*Permission denied.*: publish a checkpoint with"):
        check(half)


def test_a_start_waits_for_an_export_at_work(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository_check, "_EXCHANGE_S", 0.1)
    with FileLock(model_exchange.lock_file(own)), pytest.raises(Exception, match="an export is writing into"):
        check(own)
    assert check(own) == ["clip"]


@pytest.mark.parametrize("model", MODELS)
def test_each_model_is_missed(model: str, own: Path) -> None:
    shutil.rmtree(own / model)
    with pytest.raises(InvalidInput, match=f"lacks {model}:"):
        check(own)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_of_another_checkpoint_is_noticed(model: str, own: Path, others: Path) -> None:
    shutil.rmtree(own / model)
    shutil.copytree(others / model, own / model)
    with pytest.raises(ContractMismatch, match="holds models of different checkpoints under one name, clip:"):
        check(own)


@pytest.mark.parametrize(
    "file",
    [
        "clip_image_encoder/1/model.onnx",
        "clip_text_encoder/1/model.onnx",
        "clip_image_preprocess/1/model.py",
        "clip_text_tokenize/1/tokenizer.json",
    ],
)
def test_each_file_is_missed(file: str, own: Path) -> None:
    (own / file).unlink()
    with pytest.raises(InvalidInput, match=f"lacks {file}:"):
        check(own)


@pytest.mark.parametrize("model", MODELS)
def test_each_spec_and_configuration_is_missed(model: str, own: Path) -> None:
    (own / model / "1" / "spec.json").rename(own / "kept")
    with pytest.raises(InvalidInput, match=f"lacks {model}:|no weights for {model}:"):
        check(own)
    (own / model / "1").mkdir(exist_ok=True)
    (own / "kept").rename(own / model / "1" / "spec.json")
    (own / model / "config.pbtxt").write_text("name: 'half")
    with pytest.raises(ContractMismatch, match=r"config\.pbtxt isn't a model's configuration|different checkpoints"):
        check(own)


def test_models_of_others_are_no_business_of_ours(own: Path) -> None:
    (own / "detector" / "1").mkdir(parents=True)
    (own / "detector" / "1" / "model.onnx").touch()
    (own / "detector" / "config.pbtxt").write_text('backend: "onnxruntime"')
    assert check(own) == ["clip"]
