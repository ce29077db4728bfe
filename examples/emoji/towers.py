"""The bundled model: a small CLIP, its two towers, and the folder it is saved in."""

import math
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import max_pool2d
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from clip_export.hardware import has_bf16
from clip_export.towers.pooled_layer import LastLayer

IMAGE_SIZE = 64
PATCH_SIZE = 8
IMAGE_WIDTH = 192
HEAD_WIDTH = 16
TEXT_WIDTH = 128
EMBEDDING_SIZE = 192
MEAN, STD = 0.5, 0.5
PRECISION = torch.bfloat16 if has_bf16() else torch.float32
PLAIN = 0.02  # differences between the pixels of a patch, of 1, that are taken for none
NOTICE = "Made for drawings of emoji, as a demo: on photographs its results mean little."


def new_model(tokenizer: CLIPTokenizerFast) -> CLIPModel:
    """Make a model with random weights, from torch's global generator."""
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
        "patch_size": PATCH_SIZE,
        "hidden_size": IMAGE_WIDTH,
        "intermediate_size": 4 * IMAGE_WIDTH,
        "num_hidden_layers": 6,
        "num_attention_heads": IMAGE_WIDTH // HEAD_WIDTH,
        "hidden_act": "gelu",
        "projection_dim": EMBEDDING_SIZE,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING_SIZE, notice=NOTICE))
    look_around(model.vision_model)
    return model


@torch.no_grad()
def look_around(tower: nn.Module, sharpness: float = 1.4) -> None:
    """Start an image tower like a convolution: in each layer, nine heads look at the patch itself and its neighbours.

    The first HEAD_WIDTH channels hold nothing but the position of a patch, as sines and cosines (the class token's
    is zero, so that it looks everywhere alike). What a head adds to a position turns each sine on by its offset.
    After "Structured Initialization for Attention in Vision Transformers" (Zheng, Li, Lucey 2024, arXiv 2404.01139).
    """
    embeddings, channels = tower.embeddings, slice(HEAD_WIDTH)
    embeddings.patch_embedding.weight[channels] = 0
    embeddings.position_embedding.weight[:, channels] = 0.35 * grid_positions()
    offsets = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        for head, offset in enumerate(offsets):
            rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
            for projection, turn in ((attention.q_proj, shift_by(offset)), (attention.k_proj, torch.eye(HEAD_WIDTH))):
                projection.weight[rows] = 0
                projection.weight[rows, channels] = sharpness * turn
        attention.out_proj.weight[channels] = 0
        layer.mlp.fc2.weight[channels] = 0


def grid_positions() -> Tensor:
    """Return each patch's row and column as sines and cosines, zeros for the class token: [1 + P, HEAD_WIDTH]."""
    side = IMAGE_SIZE // PATCH_SIZE
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side))  # [P, 2]
    angles = places.unsqueeze(-1) * frequencies()  # [P, 2, HEAD_WIDTH / 4]
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)  # [P, HEAD_WIDTH]
    return torch.cat([torch.zeros(1, HEAD_WIDTH), waves])


def shift_by(offset: tuple[int, int]) -> Tensor:
    """Return the matrix [HEAD_WIDTH, HEAD_WIDTH] that makes of a patch's `grid_positions` those of the patch at an offset."""
    angles = (torch.tensor(offset).unsqueeze(-1) * frequencies()).flatten()  # [HEAD_WIDTH / 2]
    return torch.block_diag(*(torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles))


def frequencies() -> Tensor:
    """Return angles per patch, such that neighbouring patches have nothing in common: [HEAD_WIDTH / 4]."""
    return math.pi * PATCH_SIZE / IMAGE_SIZE * torch.arange(1, HEAD_WIDTH // 2, 2)


def embed_images(model: CLIPModel, images: Tensor, kept_patches: float, generator: Generator) -> Tensor:
    """Return embeddings [B, D], not of unit length, of images float32 [B, 3, S, S] between 0 and 1.

    Below 1, `kept_patches` is the share of patches the tower sees: drawn anew for each image, and of those that show
    nothing but one colour only what is left over. Between the layers numbers have PRECISION: under autocast all of it
    would be turned to and fro. The last layer computes the class token alone.
    """
    tower = model.vision_model
    hidden = tower.embeddings((images - MEAN) / STD)  # [B, 1 + P, W]
    if kept_patches < 1:
        hidden = drop_patches(hidden, order_patches(images, generator), kept_patches)
    hidden = tower.pre_layrnorm(hidden).to(PRECISION)
    *layers, last = tower.encoder.layers
    for layer in layers:
        hidden = layer(hidden, None)
    read = LastLayer(last, lambda hidden, _: hidden[:, 0])(hidden)  # [B, 1, W]
    return model.visual_projection(tower.post_layernorm(read[:, 0]))


def order_patches(images: Tensor, generator: Generator) -> Tensor:
    """Return the positions of each image's patches, in random order, those of a single colour last: int64 [B, P]."""
    lightest, darkest = max_pool2d(images, PATCH_SIZE), -max_pool2d(-images, PATCH_SIZE)  # [B, 3, rows, columns]
    plain = ((lightest - darkest).amax(1) < PLAIN).flatten(1).float()
    return (torch.rand(plain.shape, generator=generator) + plain).argsort(1)


def drop_patches(hidden: Tensor, order: Tensor, kept: float) -> Tensor:
    """Keep the class token and the first patches of an order: [B, 1 + P, W] to [B, 1 + kept * P, W]."""
    count, patches = order.shape
    chosen = 1 + order[:, : round(kept * patches)]
    first = torch.zeros(count, 1, dtype=chosen.dtype)
    rows = torch.cat([first, chosen], 1).unsqueeze(-1)  # [B, 1 + kept * P, 1]
    return hidden.gather(1, rows.expand(-1, -1, hidden.shape[-1]))


def embed_texts(model: CLIPModel, tokens: Tensor) -> Tensor:
    """Return embeddings [B, D], not of unit length, of tokens int64 [B, L]."""
    return model.text_projection(model.text_model(input_ids=tokens).pooler_output)


def save_checkpoint(model: CLIPModel, tokenizer: CLIPTokenizerFast, folder: Path) -> None:
    """Write weights, configuration, tokenizer and preprocessing where `from_pretrained` finds them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    new_processor().save_pretrained(folder)


def new_processor() -> CLIPImageProcessor:
    """Return the preprocessing: shortest edge to IMAGE_SIZE (bicubic), the middle square, channels from -1 to 1."""
    return CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )
