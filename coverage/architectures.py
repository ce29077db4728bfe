"""Cases of open_clip's own configurations, each with fewer and narrower layers."""

from __future__ import annotations

from pathlib import Path

import open_clip_configs
import open_clips

from case import Row, line
from clip_client.spec import TOWERS


def names() -> list[str]:
    """Return the names of all configurations, sorted."""
    return sorted(open_clips.library().list_models())


def version() -> str:
    """Return open_clip's."""
    return str(open_clips.library().__version__)


def tried(name: str, folder: Path) -> Row:
    """Build one configuration below a folder that is thrown away, and compare it."""
    config = open_clips.library().get_model_config(name)
    result = open_clip_configs.tried(name, folder / "checkpoint")
    cosine = min((result.cosines[tower] for tower in TOWERS if tower in result.cosines), default=0.0)
    towers = f"{_image(config['vision_cfg'])}; {_text(config['text_cfg'])}"
    return Row(name, result.verdict, towers, cosine=cosine, why=line(result.why, folder))


def _image(vision: dict[str, object]) -> str:
    return str(vision.get("timm_model_name") or ("ResNet" if isinstance(vision["layers"], list) else "ViT"))


def _text(text: dict[str, object]) -> str:
    return str(text.get("hf_model_name") or ("CLIP" if not text.get("hf_tokenizer_name") else text["hf_tokenizer_name"]))
