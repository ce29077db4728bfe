"""Drawings made to differ in style: geometry, background, colour, light, line and blur, in batched tensors.

What a drawing shows survives; how its set draws does not. Every function takes a generator, so a step is repeatable.
"""

import math

import torch
import torch.nn.functional as functional
from torch import Generator, Tensor

LUMA = torch.tensor([0.299, 0.587, 0.114])


def augment(drawings: Tensor, size: int, generator: Generator) -> Tensor:
    """Make random views of drawings.

    drawings: uint8 [B, H, W, 4], RGB with straight alpha.
    Returns float32 [B, 3, size, size], 0 to 1.
    """
    layers = drawings.permute(0, 3, 1, 2).float() / 255  # [B, 4, H, W]
    colour, alpha = recolour(repaint(layers[:, :3], generator), generator) * layers[:, 3:], layers[:, 3:]
    colour, alpha = outline(colour, alpha, generator)
    moved = warp(torch.cat([colour, alpha], 1), size, generator)
    colour, alpha = moved[:, :3], moved[:, 3:]
    colour = light(colour, generator)
    images = colour + background(len(drawings), size, generator) * (1 - alpha)
    images = blur(images, generator)
    return cut_out(images, generator).clamp(0, 1)


def on_white(drawings: Tensor, size: int) -> Tensor:
    """Drawings as they are: uint8 [B, H, W, 4] to float32 [B, 3, size, size], 0 to 1."""
    layers = drawings.permute(0, 3, 1, 2).float() / 255  # [B, 4, H, W]
    images = layers[:, :3] * layers[:, 3:] + (1 - layers[:, 3:])
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True)


def blend_styles(drawings: Tensor, others: Tensor, share: float, generator: Generator) -> Tensor:
    """Mix some drawings with another style's of the same emoji; both uint8 [B, H, W, 4]."""
    count = len(drawings)
    weight = uniform(count, 0.0, 0.6, generator) * chosen(count, share, generator)
    mixed = torch.lerp(drawings.float(), others.float(), weight.view(-1, 1, 1, 1))
    return mixed.round().to(torch.uint8)


def outline(colour: Tensor, alpha: Tensor, generator: Generator, share: float = 0.15) -> tuple[Tensor, Tensor]:
    """Draw a dark line of one to three pixels around some shapes; colour is premultiplied."""
    reach = 1 + 2 * int(torch.randint(1, 4, (), generator=generator))
    rows = chosen(len(alpha), share, generator).nonzero().flatten()
    ink = uniform(len(rows), 0.0, 0.4, generator).view(-1, 1, 1, 1)
    ring = functional.max_pool2d(alpha[rows], reach, stride=1, padding=reach // 2) - alpha[rows]
    return colour.index_add(0, rows, (ring * ink).expand(-1, 3, -1, -1)), alpha.index_add(0, rows, ring)


def warp(layers: Tensor, size: int, generator: Generator) -> Tensor:
    """Scale, stretch, turn, shear, shift and wave: [B, C, H, W] to [B, C, size, size]."""
    count = len(layers)
    turn = normal(count, 0.12, generator).clamp(-0.4, 0.4)
    zoom = uniform(count, 0.9, 1.3, generator)
    stretch = 1 + normal(count, 0.08, generator).clamp(-0.2, 0.2)
    shear = normal(count, 0.08, generator).clamp(-0.25, 0.25)
    shift = normal(2 * count, 0.06, generator).view(count, 2)
    rows = [
        torch.stack([zoom * stretch * turn.cos(), -zoom * (turn.sin() - shear), shift[:, 0]], 1),
        torch.stack([zoom * turn.sin(), zoom / stretch * turn.cos(), shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [count, 4, size, size], align_corners=False)
    return functional.grid_sample(layers, wave(grid, generator), align_corners=False)


def wave(grid: Tensor, generator: Generator, share: float = 0.4) -> Tensor:
    """Bend some sampling grids [B, H, W, 2] along a sine, as a flag flies."""
    count = len(grid)
    height = uniform(count, 0.0, 0.14, generator) * chosen(count, share, generator)
    frequency = uniform(count, 1.0, 4.0, generator)
    phase = uniform(count, 0.0, 2 * math.pi, generator)
    height, frequency, phase = (value.view(-1, 1, 1) for value in (height, frequency, phase))
    bent = grid[..., 1] + height * torch.sin(frequency * grid[..., 0] + phase)
    return torch.stack([grid[..., 0], bent], -1)


def background(count: int, size: int, generator: Generator) -> Tensor:
    """Make a background: white for most, else one colour, or one colour fading into another: [B, 3, size, size]."""
    first, second = torch.rand(2, count, 3, 1, 1, generator=generator)
    fade = torch.linspace(0, 1, size).view(1, 1, size, 1) * chosen(count, 0.5, generator).view(-1, 1, 1, 1)
    plain = chosen(count, 0.75, generator).view(-1, 1, 1, 1)
    coloured = torch.lerp(first, second, fade).expand(count, 3, size, size)
    return torch.lerp(coloured, torch.ones(()), plain)


def light(colour: Tensor, generator: Generator, share: float = 0.5) -> Tensor:
    """Shade some drawings along a line, lighter at one end: a cheap gradient fill."""
    count, size = len(colour), colour.shape[-1]
    angle = uniform(count, 0.0, 2 * math.pi, generator).view(-1, 1, 1)
    strength = uniform(count, 0.0, 0.35, generator) * chosen(count, share, generator)
    axis = torch.linspace(-1, 1, size)
    slope = axis.view(1, 1, -1) * angle.cos() + axis.view(1, -1, 1) * angle.sin()  # [B, size, size]
    return colour * (1 + strength.view(-1, 1, 1, 1) * slope.unsqueeze(1))


def recolour(images: Tensor, generator: Generator) -> Tensor:
    """Change hue a little, saturation, brightness and contrast more; some become grey."""
    count = len(images)
    saturation = uniform(count, 0.5, 1.5, generator) * (1 - chosen(count, 0.08, generator))
    hue = normal(count, 0.15, generator).clamp(-0.4, 0.4)
    images = torch.einsum("bij,bjhw->bihw", colour_matrix(hue, saturation), images)
    contrast = uniform(count, 0.65, 1.25, generator).view(-1, 1, 1, 1)
    brightness = normal(count, 0.06, generator).view(-1, 1, 1, 1)
    changed = (images - 0.5) * contrast + 0.5 + brightness
    return torch.lerp(changed, images, chosen(count, 0.3, generator).view(-1, 1, 1, 1)).clamp(0, 1)


def repaint(images: Tensor, generator: Generator, share: float = 0.5) -> Tensor:
    """Move colours along smooth random waves in RGB, in some images: unlike colours move unlike, as between two palettes."""
    count = len(images)
    direction = normal(9 * count, 3.0, generator).view(count, 3, 3)
    phase = uniform(3 * count, 0.0, 2 * math.pi, generator).view(count, 3, 1, 1)
    height = uniform(count, 0.0, 0.15, generator) * chosen(count, share, generator)
    waves = torch.sin(torch.einsum("bij,bjhw->bihw", direction, images) + phase)
    return images + height.view(-1, 1, 1, 1) * waves


def colour_matrix(hue: Tensor, saturation: Tensor) -> Tensor:
    """Return matrices [B, 3, 3] on RGB that turn chroma by `hue` radians about grey and scale it."""
    grey = LUMA.expand(3, 3)
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    thirds = torch.full((3, 3), 1 / 3)
    cos, sin = hue.cos().view(-1, 1, 1), hue.sin().view(-1, 1, 1)
    turn = cos * torch.eye(3) + sin * axis + (1 - cos) * thirds
    scale = saturation.view(-1, 1, 1)
    return (scale * torch.eye(3) + (1 - scale) * grey) @ turn


def blur(images: Tensor, generator: Generator) -> Tensor:
    """Soften some images, sharpen others."""
    rows = chosen(len(images), 0.5, generator).nonzero().flatten()
    sharp = images[rows]
    soft = functional.avg_pool2d(functional.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    weight = uniform(len(rows), -0.6, 1.0, generator).view(-1, 1, 1, 1)
    return images.index_copy(0, rows, torch.lerp(sharp, soft, weight))


def cut_out(images: Tensor, generator: Generator, share: float = 0.25) -> Tensor:
    """Cover a box of up to a third of the side, in some images, with one colour."""
    count, size = len(images), images.shape[-1]
    centre = torch.rand(count, 2, generator=generator).view(count, 2, 1)
    half = torch.rand(count, 2, generator=generator).view(count, 2, 1) / 6 * chosen(count, share, generator).view(-1, 1, 1)
    inside = (torch.linspace(0, 1, size) - centre).abs() < half  # [B, 2, size]
    box = inside[:, 0].unsqueeze(1).unsqueeze(2) & inside[:, 1].unsqueeze(1).unsqueeze(3)  # [B, 1, size, size]
    return torch.where(box, torch.rand(count, 3, 1, 1, generator=generator), images)


def uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """Draw `count` numbers between `low` and `high`."""
    return low + (high - low) * torch.rand(count, generator=generator)


def normal(count: int, deviation: float, generator: Generator) -> Tensor:
    """Draw `count` numbers around 0."""
    return deviation * torch.randn(count, generator=generator)


def chosen(count: int, share: float, generator: Generator) -> Tensor:
    """Draw 1 for about `share` of `count` items, else 0."""
    return (torch.rand(count, generator=generator) < share).float()
