"""Folders of models that a version consists of, and of those of the plain name that lead to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from clip_client import model_config
from clip_client.errors import ContractMismatch
from clip_client.hard_links import link
from clip_client.model_repository import BACKEND, CONFIG_FILE, NUMBER, VERSION, encoder, models, preparer
from clip_client.model_versions import folder_of, split, target, versioned
from clip_client.spec import ERROR, ORIGIN, SPEC_FILE, TEXT, TOWERS, ModelSpec, Tower, ensemble


def spec_of(repository: Path, name: str) -> ModelSpec:
    """Return the spec of a published name, with all that its files say."""
    return ModelSpec.load(folder_of(repository / ensemble(name, "image")) / SPEC_FILE)


def source_name(repository: Path, name: str) -> str:
    """Return the name of the models that a published name leads to, ``clip`` or ``clip.2``."""
    return target(model_config.read(repository / ensemble(name, "text")), name)


def write_version(source: Path, source_name: str, into: Path, own: str) -> None:
    """Write the six models of a version, ``clip.2`` say, from six of any name; weights are linked, not copied."""
    spec = dataclasses.replace(spec_of(source, source_name), name=split(own)[0])
    for tower in TOWERS:
        names = dict(zip(models(source_name, tower), models(own, tower), strict=True))
        for model, renamed in names.items():
            config = model_config.read(source / model)
            if model == ensemble(source_name, tower):
                _set_parameters(config, spec.to_parameters())
            config.name = renamed
            for step in config.ensemble_scheduling.step:
                step.model_name = names.get(step.model_name, step.model_name)
            folder = _write(into, config, VERSION, spec)
            for file in folder_of(source / model).iterdir():
                if file.name != SPEC_FILE and file.is_file():
                    link(file, folder / file.name)


def write_leading(into: Path, versions: Path, name: str, number: int) -> None:
    """Write the six models of the plain name, which lead to a version's own models in ``versions``."""
    own = versioned(name, number)
    spec = spec_of(versions, own)
    for tower in TOWERS:
        config = model_config.read(versions / ensemble(own, tower))
        config.name = ensemble(name, tower)
        _write(into, config, str(number), spec)
        for plain, real in ((preparer(name, tower), preparer(own, tower)), (encoder(name, tower), encoder(own, tower))):
            _write(into, _leading(model_config.read(versions / real), plain, number), str(number), spec)


def weight_bytes(repository: Path, name: str, tower: Tower) -> int:
    """Return the size of an encoder's files."""
    return sum(file.stat().st_size for file in _files(repository / encoder(name, tower)))


def _leading(config: Any, name: str, number: int) -> Any:
    """Return the configuration of an ensemble that passes everything on to one model."""
    made = type(config)(name=name, platform="ensemble", max_batch_size=config.max_batch_size)
    made.input.extend(tensor for tensor in config.input if not (tensor.name == TEXT and tensor.optional))
    for tensor in made.input:
        tensor.optional = tensor.allow_ragged_batch = False
    told_with_texts = len(made.input) < len(config.input)
    made.output.extend(tensor for tensor in config.output if not (told_with_texts and tensor.name in (ERROR, ORIGIN)))
    step = made.ensemble_scheduling.step.add(model_name=config.name, model_version=-1)
    step.input_map.update({tensor.name: tensor.name for tensor in made.input})
    step.output_map.update({tensor.name: tensor.name for tensor in made.output})
    for key, parameter in config.parameters.items():
        made.parameters[key].string_value = parameter.string_value
    made.parameters[BACKEND].string_value, made.parameters[NUMBER].string_value = config.backend, str(number)
    return made


def _write(into: Path, config: Any, number: str, spec: ModelSpec) -> Path:
    folder = into / str(config.name) / number
    folder.mkdir(parents=True)
    (folder.parent / CONFIG_FILE).write_text(text_format.MessageToString(config), encoding="utf-8")
    spec.save(folder / SPEC_FILE)
    return folder


def _set_parameters(config: Any, parameters: dict[str, str]) -> None:
    config.parameters.clear()
    for key, value in parameters.items():
        config.parameters[key].string_value = value


def check_contract(source: Path, name: str) -> None:
    """Raise ContractMismatch for models that don't name the space of their answers."""
    config = model_config.read(source / ensemble(name, "text"))
    if ORIGIN not in {tensor.name for tensor in config.output}:
        raise ContractMismatch(
            f"{source}: {config.name} doesn't name the space of its answers, an earlier version exported it: export it again"
        )


def _files(model: Path) -> Iterator[Path]:
    return (file for file in folder_of(model).iterdir() if file.is_file())
