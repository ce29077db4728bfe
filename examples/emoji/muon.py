"""Muon, an optimiser for the matrices inside a network (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

torch.optim.Muon does the same, but always in bfloat16, which takes four times longer where the processor has none.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x³ and x⁵ in each round


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, its singular values all set to about 1, and weight decay.

    A step is as long as AdamW's at the same rate would be (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, matrices: Iterable[nn.Parameter], weight_decay: float, precision: torch.dtype) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay})
        self.precision = precision

    @torch.no_grad()
    def step(self) -> None:
        """Change each weight by its gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                mean = state["mean"].lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(mean, MOMENTUM)
                length = 0.2 * math.sqrt(max(weight.shape))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(orthogonal(ahead.to(self.precision)), alpha=group["lr"] * length)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Bring the singular values of a matrix [M, N] to between about 0.7 and 1.2, by Newton and Schulz's iteration."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T, rounds).T
    once, thrice, five_times = COEFFICIENTS
    turned = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(rounds):
        square = turned @ turned.T
        change = torch.addmm(square, square, square, beta=thrice, alpha=five_times)
        turned = torch.addmm(turned, change, turned, beta=once)
    return turned
