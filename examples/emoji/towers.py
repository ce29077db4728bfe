"""The bundled model: a small CLIP, its two towers, and the folder it is saved in."""

from pathlib import Path

import torch
from torch import Generator, Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

IMAGE_SIZE = 64
TEXT_WIDTH = 128
EMBEDDING_SIZE = 192
MEAN, STD = 0.5, 0.5


def new_model(tokenizer: CLIPTokenizerFast) -> CLIPModel:
    """A model with random weights, from torch's global generator."""
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "projection_dim": EMBEDDING_SIZE,
        **special,
    }
    vision = {
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "hidden_act": "gelu",
        "projection_dim": EMBEDDING_SIZE,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING_SIZE))


def embed_images(model: CLIPModel, images: Tensor, kept_patches: float, generator: Generator) -> Tensor:
    """Embeddings [B, D], not of unit length, of images float32 [B, 3, S, S] between 0 and 1.

    Below 1, `kept_patches` is the share of patches the tower sees, drawn anew for each image.
    """
    tower = model.vision_model
    hidden = tower.embeddings((images - MEAN) / STD)  # [B, 1 + P, W]
    if kept_patches < 1:
        hidden = drop_patches(hidden, kept_patches, generator)
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(hidden)).last_hidden_state
    return model.visual_projection(tower.post_layernorm(hidden[:, 0]))


def drop_patches(hidden: Tensor, kept: float, generator: Generator) -> Tensor:
    """Keep the class token and a random share of the patches: [B, 1 + P, W] to [B, 1 + kept * P, W]."""
    count, length, width = hidden.shape
    order = torch.rand(count, length - 1, generator=generator).argsort(1)
    chosen = 1 + order[:, : round(kept * (length - 1))]
    first = torch.zeros(count, 1, dtype=chosen.dtype)
    rows = torch.cat([first, chosen], 1).unsqueeze(-1)  # [B, 1 + kept * P, 1]
    return hidden.gather(1, rows.expand(-1, -1, width))


def embed_texts(model: CLIPModel, tokens: Tensor) -> Tensor:
    """Embeddings [B, D], not of unit length, of tokens int64 [B, L]."""
    return model.text_projection(model.text_model(input_ids=tokens).pooler_output)


def save_checkpoint(model: CLIPModel, tokenizer: CLIPTokenizerFast, folder: Path) -> None:
    """Write weights, configuration, tokenizer and preprocessing where `from_pretrained` finds them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    new_processor().save_pretrained(folder)


def new_processor() -> CLIPImageProcessor:
    """The preprocessing: shortest edge to IMAGE_SIZE (bicubic), the middle square, channels from -1 to 1."""
    return CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )
