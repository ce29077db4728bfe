"""Trains the bundled checkpoint: `python examples/emoji/train.py --output DIR`; the same command goes on after a stop.

Every step draws its own random numbers from the seed and its position, so a resumed run ends in the same weights.
"""

import argparse
import math
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from augment import augment, blend_styles, on_white
from captions import Captions
from data import Drawings, load_drawings
from towers import IMAGE_SIZE, embed_images, embed_texts, new_model, save_checkpoint
from words import Emoji, load_emoji


@dataclass(frozen=True)
class Options:
    """One training: each step shows `emoji_per_step` emoji in `views` drawings each, with as many captions."""

    steps: int = 5700
    seed: int = 0
    emoji_per_step: int = 64
    views: int = 2
    adam_rate: float = 1.2e-3
    muon_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    decay_steps: int = 1821
    ease_steps: int = 2000
    kept_patches: float = 0.5
    whole_steps: int = 400
    blend_share: float = 0.15
    anchor_weight: float = 1.0
    clip_weight: float = 1.0
    save_every: int = 50

    def rate_at(self, step: int) -> float:
        """Part of the full learning rates: linear warm-up, a plateau, a linear way down over the last steps."""
        up = (step + 1) / self.warmup_steps
        down = (self.steps - step) / self.decay_steps
        return max(0.01, min(1.0, up, down))

    def kept_patches_at(self, step: int) -> float:
        """Share of patches that the image tower sees: half is faster, the last steps see whole pictures."""
        return self.kept_patches if step < self.steps - self.whole_steps else 1.0

    def augmented_share_at(self, step: int) -> float:
        """Share of drawings that are augmented: few at first, since hard pictures alone teach a new model nothing."""
        return 0.3 + 0.3 * min(1.0, step / self.ease_steps)


@dataclass(frozen=True)
class Batch:
    """What one step shows: images float32 [B, 3, S, S], tokens int64 [B, L], emoji int64 [B]; `generator` draws on."""

    images: Tensor
    tokens: Tensor
    emoji: Tensor
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
        """Positions of up to `count` different emoji: int64 [B]."""
        return self.drawn[torch.randperm(len(self.drawn), generator=generator)[:count]]

    def pick_drawings(self, emoji: Tensor, views: int, generator: Generator) -> Tensor:
        """uint8 [views * B, H, W, 4], one view after another; two views differ in style where there are two styles."""
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

    def anchor_loss(self, embeddings: Tensor, emoji: Tensor) -> Tensor:
        """How badly unit-length embeddings, float32 [B, D], tell their own emoji's anchor from all others."""
        anchors = normalize(self.anchors, dim=-1) * self.anchor_scale.exp()
        return cross_entropy(embeddings @ anchors.T, emoji, label_smoothing=0.05)

    def clip_loss(self, pictured: Tensor, written: Tensor, emoji: Tensor) -> Tensor:
        """CLIP's symmetric loss where all pairs of one emoji match; embeddings float32 [B, D], unit length."""
        logits = self.model.logit_scale.exp().clamp(max=50) * pictured @ written.T
        matches = (emoji[:, None] == emoji[None, :]).float()
        targets = matches / matches.sum(1, keepdim=True)
        return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


class Training:
    """All that a training step needs, and the state that a resumed training takes up."""

    def __init__(self, emoji: list[Emoji], drawings: Drawings, options: Options) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.captions = Captions(emoji)
        self.trainee = Trainee(new_model(self.captions.tokenizer), len(emoji))
        self.trainee.model.set_attn_implementation("eager")  # with so few patches faster than the fused kernel
        self.optimizers = new_optimizers(self.trainee, options)
        self.picker = DrawingPicker(drawings, len(emoji))
        self.drawer = ThreadPoolExecutor(max_workers=1)
        self.ahead: dict[int, Future[Batch]] = {}

    def step(self, position: int) -> dict[str, float]:
        """Step number `position` of the optimiser; returns the losses by name."""
        batch = self.take_batch(position)
        with torch.autocast("cpu", torch.bfloat16):
            kept_patches = self.options.kept_patches_at(position)
            pictured = embed_images(self.trainee.model, batch.images, kept_patches, batch.generator)
            written = embed_texts(self.trainee.model, batch.tokens)
        losses = self.losses(normalize(pictured.float(), dim=-1), normalize(written.float(), dim=-1), batch.emoji)
        self.descend(sum(losses.values()), self.options.rate_at(position))
        return {name: loss.item() for name, loss in losses.items()}

    def take_batch(self, position: int) -> Batch:
        """The batch of a step; the next one is drawn meanwhile, by a thread of its own."""
        batch = self.ahead.pop(position, None) or self.drawer.submit(self.draw_batch, position)
        self.ahead[position + 1] = self.drawer.submit(self.draw_batch, position + 1)
        return batch.result()

    def draw_batch(self, position: int) -> Batch:
        """Drawings and captions of a step, by its own random numbers."""
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + position)
        emoji = self.picker.pick_emoji(self.options.emoji_per_step, generator)
        images = self.draw_images(emoji, position, generator)
        emoji = emoji.repeat(self.options.views)
        return Batch(images, self.captions.draw(emoji, generator), emoji, generator)

    def draw_images(self, emoji: Tensor, position: int, generator: Generator) -> Tensor:
        """Drawings as images, float32 [views * B, 3, S, S]: each emoji in several styles, a share of them augmented."""
        drawings = self.picker.pick_drawings(emoji, self.options.views, generator)
        blended = blend_styles(drawings, drawings.roll(len(emoji), 0), self.options.blend_share, generator)
        images = on_white(drawings, IMAGE_SIZE)
        share = self.options.augmented_share_at(position)
        rows = torch.randperm(len(drawings), generator=generator)[: round(share * len(drawings))]
        images[rows] = augment(blended[rows], IMAGE_SIZE, generator)
        return images

    def losses(self, pictured: Tensor, written: Tensor, emoji: Tensor) -> dict[str, Tensor]:
        """Images and texts each against all anchors, and against each other; embeddings float32 [B, D], unit length."""
        return {
            "image": self.options.anchor_weight * self.trainee.anchor_loss(pictured, emoji),
            "text": self.options.anchor_weight * self.trainee.anchor_loss(written, emoji),
            "clip": self.options.clip_weight * self.trainee.clip_loss(pictured, written, emoji),
        }

    def descend(self, loss: Tensor, rate: float) -> None:
        """Change the weights once, at a part of the full learning rates."""
        self.trainee.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["full_rate"]
            optimizer.step()

    def save(self, path: Path, done: int) -> None:
        """Write the state after `done` steps to a temporary name, then rename it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"step": done, "options": asdict(self.options), "trainee": self.trainee.state_dict(), "optimizers": optimizers}
        torch.save(state, unfinished)
        os.replace(unfinished, path)

    def resume(self, path: Path) -> int:
        """Take up a saved state; returns how many steps are done, 0 where nothing was saved."""
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
    """Muon for the matrices inside the towers' layers, AdamW for all other weights; no weight decay on vectors."""
    named = list(trainee.named_parameters())
    inner = [weight for name, weight in named if ".layers." in name and weight.ndim == 2]
    outer = [weight for name, weight in named if ".layers." not in name and weight.ndim > 1]
    vectors = [weight for _, weight in named if weight.ndim < 2]
    muon = [{"params": inner, "full_rate": options.muon_rate}]
    adam = [
        {"params": outer, "full_rate": options.adam_rate},
        {"params": vectors, "full_rate": options.adam_rate, "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(muon, weight_decay=options.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adam, weight_decay=options.weight_decay, betas=(0.9, 0.98), fused=True),
    ]


def train(emoji: list[Emoji], drawings: Drawings, options: Options, output: Path) -> None:
    """Train, or go on with a training that was stopped, and save the checkpoint in `output`."""
    training = Training(emoji, drawings, options)
    state_file = output / "training.pt"
    done = training.resume(state_file)
    progress = tqdm(range(done, options.steps), initial=done, total=options.steps, unit=" steps")
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
    print(f"device: cpu, {torch.get_num_threads()} threads, torch {torch.__version__}")
    started = time.perf_counter()
    emoji = load_emoji()
    train(emoji, load_drawings(emoji), Options(**given), output)
    print(f"{time.perf_counter() - started:.0f} s of wall clock, {time.process_time():.0f} s of CPU in this run")


if __name__ == "__main__":
    main()
