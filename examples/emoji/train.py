"""Trains the bundled checkpoint: `python examples/emoji/train.py --output DIR`; the same command goes on after a stop.

Every step draws its own random numbers from the seed and its position, so a resumed run ends in the same weights.
"""

import argparse
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot
from clip_client.progress_bars import ProgressBar

from augment import augment, blend_styles, on_white
from captions import Captions
from clip_export.hardware import cpu_name
from drawings import Drawings, load_drawings
from emoji_names import Emoji, load_emoji
from muon import Muon
from towers import IMAGE_SIZE, PRECISION, embed_images, embed_texts, new_model, save_checkpoint

THREADS = 2
"""Each embeds half of a step, and runs operations of one thread: so little work is not worth sharing out within one."""


@dataclass(frozen=True)
class Options:
    """One training: each step shows `emoji_per_step` emoji in `views` drawings each, with as many captions."""

    steps: int = 10000
    seed: int = 0
    emoji_per_step: int = 64
    views: int = 2
    adam_rate: float = 1.2e-3
    muon_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    decay_steps: int = 5000
    ease_steps: int = 2000
    kept_patches: float = 0.375
    whole_steps: int = 500
    blend_share: float = 0.15
    margin: float = 0.2
    anchor_weight: float = 1.0
    clip_weight: float = 1.0
    save_every: int = 50

    def rate_at(self, step: int) -> float:
        """Return the part of the full learning rates: linear warm-up, a plateau, a linear way down over the last steps."""
        up = (step + 1) / self.warmup_steps
        down = (self.steps - step) / self.decay_steps
        return max(0.01, min(1.0, up, down))

    def kept_patches_at(self, step: int) -> float:
        """Return the share of patches that the image tower sees: half is faster, the last steps see whole pictures."""
        return self.kept_patches if step < self.steps - self.whole_steps else 1.0

    def augmented_share_at(self, step: int) -> float:
        """Return the share of augmented drawings: few at first, since hard pictures alone teach a new model nothing."""
        return 0.3 + 0.3 * min(1.0, step / self.ease_steps)

    def margin_at(self, step: int) -> float:
        """Return the margin by which the cosine to the own anchor must be the highest: grows from 0."""
        return self.margin * min(1.0, step / self.ease_steps)


@dataclass(frozen=True)
class Part:
    """One thread's share of a step: emoji int64 [E], tokens int64 [views * E, L]; its images come from `generator`."""

    emoji: Tensor
    tokens: Tensor
    generator: Generator


class DrawingPicker:
    """Finds drawings of an emoji in differing styles."""

    def __init__(self, drawings: Drawings, emoji_count: int) -> None:
        self.pixels = torch.from_numpy(drawings.pixels)
        emoji = torch.from_numpy(drawings.emoji)
        self.first = torch.searchsorted(emoji, torch.arange(emoji_count))
        self.count = torch.bincount(emoji, minlength=emoji_count)
        self.drawn = torch.nonzero(self.count).flatten()

    def pick_emoji(self, count: int, generator: Generator) -> Tensor:
        """Draw positions of up to `count` different emoji: int64 [B]."""
        return self.drawn[torch.randperm(len(self.drawn), generator=generator)[:count]]

    def pick_drawings(self, emoji: Tensor, views: int, generator: Generator) -> Tensor:
        """Draw uint8 [views * B, H, W, 4], one view after another; two views differ in style where there are two styles."""
        order = torch.rand(len(emoji), generator=generator)
        count = self.count[emoji]
        apart = (count // views).clamp(min=1)
        offsets = [((order * count).long() + view * apart) % count for view in range(views)]
        return self.pixels[torch.cat([self.first[emoji] + offset for offset in offsets])]


class Trainee(nn.Module):
    """The model and, for training only, one anchor for each emoji that all its drawings and captions are drawn to."""

    def __init__(self, model: nn.Module, emoji_count: int) -> None:
        super().__init__()
        self.model = model
        self.anchors = nn.Parameter(0.02 * torch.randn(emoji_count, model.config.projection_dim))
        self.anchor_scale = nn.Parameter(torch.tensor(math.log(16.0)))

    def anchor_loss(self, embeddings: Tensor, emoji: Tensor, margin: float) -> Tensor:
        """Return the loss of unit-length embeddings, float32 [B, D], that don't tell their own emoji's anchor from all others.

        It counts as told only where its cosine is the highest by a margin (CosFace: Wang et al. 2018, arXiv 1801.09414).
        """
        cosines = embeddings @ normalize(self.anchors, dim=-1).T  # [B, E]
        own = one_hot(emoji, len(self.anchors))
        return cross_entropy(self.anchor_scale.exp() * (cosines - margin * own), emoji, label_smoothing=0.05)

    def clip_loss(self, pictured: Tensor, written: Tensor, emoji: Tensor) -> Tensor:
        """Return CLIP's symmetric loss where all pairs of one emoji match; embeddings float32 [B, D], unit length."""
        logits = self.model.logit_scale.exp().clamp(max=50) * pictured @ written.T
        matches = (emoji[:, None] == emoji[None, :]).float()
        targets = matches / matches.sum(1, keepdim=True)
        return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


class Training:
    """Everything for a training step, and the state of a resumed training."""

    def __init__(self, emoji: list[Emoji], drawings: Drawings, options: Options) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.captions = Captions(emoji)
        self.trainee = Trainee(new_model(self.captions.tokenizer), len(emoji))
        self.trainee.model.set_attn_implementation("eager")  # with so few patches faster than the fused kernel
        self.weights = list(self.trainee.model.parameters())
        self.optimizers = new_optimizers(self.trainee, options)
        self.picker = DrawingPicker(drawings, len(emoji))
        self.threads = ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,))

    def step(self, position: int) -> dict[str, float]:
        """Take step number `position`; return the losses by name."""
        parts = self.draw_parts(position)
        emoji = torch.cat([part.emoji.repeat(self.options.views) for part in parts])
        embedded = list(self.threads.map(self.embed, parts, repeat(position)))
        pictured, written = (torch.cat(side).detach().requires_grad_() for side in zip(*embedded, strict=True))
        losses = self.losses(pictured, written, emoji, self.options.margin_at(position))
        self.trainee.zero_grad()
        sum(losses.values()).backward()
        sizes = [len(part.tokens) for part in parts]
        slopes = zip(pictured.grad.split(sizes), written.grad.split(sizes), strict=True)
        self.add_gradients(*self.threads.map(self.gradients, embedded, slopes))
        self.descend(self.options.rate_at(position))
        return {name: loss.item() for name, loss in losses.items()}

    def draw_parts(self, position: int) -> list[Part]:
        """Draw the emoji of a step and their captions, shared out among the threads, each part with its own random numbers."""
        first_seed = (self.options.seed * 1_000_003 + position) * (THREADS + 1)
        generators = [Generator().manual_seed(first_seed + part) for part in range(THREADS + 1)]
        emoji = self.picker.pick_emoji(self.options.emoji_per_step, generators.pop())
        return [
            Part(few, self.captions.draw(few.repeat(self.options.views), generator), generator)
            for few, generator in zip(emoji.tensor_split(THREADS), generators, strict=True)
        ]

    def embed(self, part: Part, position: int) -> tuple[Tensor, Tensor]:
        """Return unit-length embeddings of a part's images and captions, float32 [views * E, D], view after view."""
        images = self.draw_images(part.emoji, position, part.generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION is torch.bfloat16):
            kept_patches = self.options.kept_patches_at(position)
            pictured = embed_images(self.trainee.model, images, kept_patches, part.generator)
            written = embed_texts(self.trainee.model, part.tokens)
        return normalize(pictured.float(), dim=-1), normalize(written.float(), dim=-1)

    def draw_images(self, emoji: Tensor, position: int, generator: Generator) -> Tensor:
        """Return drawings as images, float32 [views * E, 3, S, S]: each emoji in several styles, a share of them augmented."""
        drawings = self.picker.pick_drawings(emoji, self.options.views, generator)
        share = self.options.augmented_share_at(position)
        order = torch.randperm(len(drawings), generator=generator)
        changed, plain = order.tensor_split([round(share * len(drawings))])
        others = drawings.roll(len(emoji), 0)[changed]
        blended = blend_styles(drawings[changed], others, self.options.blend_share, generator)
        images = torch.empty(len(drawings), 3, IMAGE_SIZE, IMAGE_SIZE)
        images[changed] = augment(blended, IMAGE_SIZE, generator)
        images[plain] = on_white(drawings[plain], IMAGE_SIZE)
        return images

    def losses(self, pictured: Tensor, written: Tensor, emoji: Tensor, margin: float) -> dict[str, Tensor]:
        """Return the losses against the anchors, and of images and texts against each other; float32 [B, D], unit length."""
        return {
            "image": self.options.anchor_weight * self.trainee.anchor_loss(pictured, emoji, margin),
            "text": self.options.anchor_weight * self.trainee.anchor_loss(written, emoji, margin),
            "clip": self.options.clip_weight * self.trainee.clip_loss(pictured, written, emoji),
        }

    def gradients(self, embedded: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor]) -> tuple[Tensor | None, ...]:
        """Return the gradients of the model's weights from those of a part's embeddings; None for an unused weight."""
        return torch.autograd.grad(embedded, self.weights, slopes, allow_unused=True)

    def add_gradients(self, *parts: tuple[Tensor | None, ...]) -> None:
        """Give each weight the sum of its gradients in all parts."""
        for weight, *gradients in zip(self.weights, *parts, strict=True):
            if all(gradient is not None for gradient in gradients):
                weight.grad = sum(gradients)

    def descend(self, rate: float) -> None:
        """Change the weights once, at a part of the full learning rates."""
        nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["full_rate"]
        list(self.threads.map(lambda optimizer: optimizer.step(), self.optimizers))

    def save(self, path: Path, steps: int) -> None:
        """Write the state after so many steps to a temporary name, then rename it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"step": steps, "options": asdict(self.options), "trainee": self.trainee.state_dict(), "optimizers": optimizers}
        torch.save(state, unfinished)
        os.replace(unfinished, path)

    def resume(self, path: Path) -> int:
        """Take up a saved state; returns the number of steps that it had, 0 where nothing was saved."""
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        if state["options"] != asdict(self.options):
            raise SystemExit(f"{path} was made with {state['options']}: give the same options or another --output")
        self.trainee.load_state_dict(state["trainee"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return state["step"]


def new_optimizers(trainee: Trainee, options: Options) -> list[torch.optim.Optimizer]:
    """Make the optimisers: a Muon per thread for matrices in layers, AdamW for other weights; vectors don't decay."""
    named = list(trainee.named_parameters())
    inner = [weight for name, weight in named if ".layers." in name and weight.ndim == 2]
    outer = [weight for name, weight in named if ".layers." not in name and weight.ndim > 1]
    vectors = [weight for _, weight in named if weight.ndim < 2]
    muon = [[{"params": inner[first::THREADS], "full_rate": options.muon_rate}] for first in range(THREADS)]
    adam = [
        {"params": outer, "full_rate": options.adam_rate},
        {"params": vectors, "full_rate": options.adam_rate, "weight_decay": 0.0},
    ]
    return [
        *(Muon(some, options.weight_decay, PRECISION) for some in muon),
        torch.optim.AdamW(adam, weight_decay=options.weight_decay, betas=(0.9, 0.98), fused=True),
    ]


def train(emoji: list[Emoji], drawings: Drawings, options: Options, output: Path) -> None:
    """Train, or go on with a training that was stopped, and save the checkpoint in `output`."""
    training = Training(emoji, drawings, options)
    state_file = output / "training.pt"
    first = training.resume(state_file)
    progress = ProgressBar(range(first, options.steps), initial=first, total=options.steps, unit=" steps")
    for position in progress:
        losses = training.step(position)
        progress.set_postfix({name: f"{loss:.2f}" for name, loss in losses.items()})
        if (position + 1) % options.save_every == 0:
            training.save(state_file, position + 1)
    save_checkpoint(training.trainee.model, training.captions.tokenizer, output)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint and the state to resume")
    for name, value in asdict(Options()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help=f"default: {value}")
    given = vars(parser.parse_args())
    output = given.pop("output")
    torch.set_num_threads(1)
    print(f"device: {cpu_name()}, {THREADS} threads, {PRECISION}, torch {torch.__version__}")
    started = time.perf_counter()
    emoji = load_emoji()
    train(emoji, load_drawings(emoji), Options(**given), output)
    print(f"{time.perf_counter() - started:.0f} s of wall clock, {time.process_time():.0f} s of CPU in this run")


if __name__ == "__main__":
    main()
