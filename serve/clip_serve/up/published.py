"""Checkpoint to serve: the published one, or one that is exported first."""

from __future__ import annotations

from pathlib import Path

from clip_client import bundled, notices
from clip_client.errors import ClipError, InvalidInput
from clip_client.model_repository import VERSION
from clip_client.model_versions import folder_of
from clip_client.spec import SPEC_FILE, ModelSpec, ensemble
from clip_serve.repository import check
from clip_serve.up.messages import say
from clip_serve.up.options import Options
from clip_serve.up.parts import Part
from clip_serve.up.stop import Stop

_NAME = "clip"  # of an export, where it was given no other
_END_S = 10  # patience with the end of an export
_QUICK = (
    "openvino-bf16,openvino-fp16,onnx-fp32"  # the first that this machine runs and that passes: nothing is calibrated or timed
)
_PHOTOS = "openai/clip-vit-base-patch32"  # a checkpoint for photographs


def ensure(options: Options, stop: Stop) -> ModelSpec:
    """Return the spec of the checkpoint to serve, and tell what it is for; export it where it isn't published.

    Raises:
        InvalidInput: the export failed, or what is published can't be served.
        Stopped: a signal came.
    """
    spec = _published(options)
    if spec and (options.model is None or (options.model == spec.checkpoint and not Path(options.model).is_dir())):
        tell(spec)
        return spec
    repository = options.repository.absolute()
    if spec:
        say(f"{repository} has {spec.checkpoint}: exporting {options.model} in its place, once")
    else:
        say(f"nothing is published in {repository} yet: exporting {options.model or 'the bundled checkpoint'}, once")
    told = _told_before(options)
    _export(options, stop)
    spec = _load(options.repository)
    if spec.notice != told:
        tell(spec)
    return spec


def tell(spec: ModelSpec) -> None:
    """Print what a checkpoint is for, if it says so, and the flag that changes it."""
    if spec.notice:
        _tell(spec.checkpoint, spec.notice)


def _tell(checkpoint: str, notice: str) -> None:
    say(f"{checkpoint}: {notice} Another model: --model {_PHOTOS}")


def _told_before(options: Options) -> str:
    """Print and return the notice of a checkpoint that lies here, so that nobody waits for the wrong one; empty for none."""
    folder = Path(options.model) if options.model else bundled.CHECKPOINT
    notice = notices.of_folder(folder)
    if notice:
        _tell(folder.name, notice)
    return notice


def _published(options: Options) -> ModelSpec | None:
    """Return the spec of what is published; None for nothing, or for what can't be served where another model was asked for."""
    if not any(options.repository.glob(f"[!.]*/{VERSION}/*")):
        return None
    try:
        return _load(options.repository)
    except ClipError:
        if options.model is None:
            raise
        return None


def _load(repository: Path) -> ModelSpec:
    names = check(repository)
    name = _NAME if _NAME in names else names[0]
    return ModelSpec.load(folder_of(repository / ensemble(name, "image")) / SPEC_FILE)


def _export(options: Options, stop: Stop) -> None:
    places = ["--repository", str(options.repository), "--artifacts", str(options.artifacts)]
    model = [f"--model={options.model}"] if options.model else []
    part = Part("the export", ["export", *places, *model, "--quick", f"--variants={_QUICK}"])
    try:
        status = part.wait_ended(stop)
    finally:
        part.end(_END_S)
    if status:
        raise InvalidInput(f"the export failed (exit status {status}), so nothing was started: the lines above say why")
