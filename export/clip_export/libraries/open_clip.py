"""open_clip: create_model, load_checkpoint, its transform, its tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image

from clip_export.checkpoints.open_clip import OpenClipCheckpoint, library
from clip_export.libraries.base import Answer, Library
from clip_export.libraries.hugging_face import opened


class OpenClipLibrary(Library):
    """A model of open_clip.

    It leaves decoding to its caller. Pictures are decoded as transformers does: upright, and what is transparent on white.
    """

    distribution: ClassVar[str] = "open-clip-torch"
    uses: ClassVar[tuple[str, ...]] = ("torch", "pillow", "transformers", "tokenizers")

    def __init__(self, checkpoint: OpenClipCheckpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def title(self) -> str:
        """Name and the module's own version: it was imported to read the checkpoint."""
        return f"open_clip {library().__version__}"

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures as its README shows it."""
        model, transform = self._opened
        pixels = torch.stack([transform(_on_white(opened(file))) for file in files])
        with torch.inference_mode():
            embeddings = model.encode_image(pixels)
        return [Answer(*both) for both in zip(pixels.numpy(), embeddings.numpy(), strict=True)]

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts as its README shows it."""
        tokens = self._tokenizer([*texts])
        with torch.inference_mode():
            embeddings = self._opened[0].encode_text(tokens)
        return [Answer(*both) for both in zip(tokens.numpy(), embeddings.numpy(), strict=True)]

    @cached_property
    def _opened(self) -> tuple[Any, Any]:
        """Open the model; returns (model, transform)."""
        model, module = self._checkpoint.loaded(force_preprocess_cfg=self._stored), library()
        settings = module.transform.PreprocessCfg(**model.visual.preprocess_cfg)
        return model.eval(), module.transform.image_transform_v2(settings, is_train=False)

    @cached_property
    def _tokenizer(self) -> Any:
        """Return get_tokenizer's, or the same with the files that it would download, which a folder lacks."""
        known, module = self._checkpoint, library()
        if known.tokenizer_folder == known.folder:
            return module.get_tokenizer(known.model)
        text = known.config["text_cfg"]
        return module.tokenizer.HFTokenizer(
            str(known.tokenizer_folder),
            context_length=text.get("context_length", module.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=text.get("tokenizer_mode"),
            **text.get("tokenizer_kwargs", {}),
        )

    @property
    def _stored(self) -> dict[str, Any]:
        """Return what open_clip keeps for a tag; nothing for a folder, in which it has its place."""
        return dict(self._checkpoint.preprocessing) if self._checkpoint.is_known else {}


def _on_white(image: Image.Image) -> Any:
    from transformers.image_transforms import convert_to_rgb

    return convert_to_rgb(image)
