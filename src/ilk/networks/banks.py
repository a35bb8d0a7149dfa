"""What a method remembers from step to step: a moving average of a network, recent keys, a row for each image.

All of it is buffers and frozen parameters, so checkpoints contain it. With several processes, fill it from
gathered rows only, so that all processes hold the same.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Twin(nn.Module):
    """A network whose weights are a moving average of those of another: SCL's momentum encoder, C2BIN's follower.

    It starts as a copy and never gets a gradient. Only the parameters are averaged; the running statistics of
    its BatchNorm come from its own forward passes in training mode, as in MoCo.
    """

    def __init__(self, original: nn.Sequential, momentum: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(original).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return self.network(x)

    @torch.no_grad()
    def follow(self, original: nn.Module) -> None:
        """One step of the average: twin <- momentum * twin + (1 - momentum) * original."""
        for own, other in zip(self.network.parameters(), original.parameters(), strict=True):
            own.lerp_(other, 1 - self.momentum)

    @torch.no_grad()
    def reset(self, original: nn.Module) -> None:
        """Becomes a copy of `original` again, running statistics included."""
        self.network.load_state_dict(original.state_dict())


class KeyBanks(nn.Module):
    """A first-in-first-out bank of keys for each cluster, all of the same length.

    `keys`: (clusters, rows, d), each of length 1, random at first like the queue of MoCo.
    """

    keys: Tensor
    position: Tensor

    def __init__(self, clusters: int, rows: int, d: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(clusters, rows, d), dim=2))
        self.register_buffer("position", torch.zeros(clusters, dtype=torch.int64))  # the oldest row of each

    @torch.no_grad()
    def push(self, keys: Tensor, labels: Tensor) -> None:
        """Puts each key into the bank of its cluster, in place of the oldest keys.

        `keys`: (n, d), the newest last. `labels`: (n,) int64, the cluster of each. Where a bank gets more keys
        than it has rows, the newest stay.
        """
        _, rows, d = self.keys.shape
        order = labels.argsort(stable=True)
        keys, labels = keys[order].to(self.keys.dtype), labels[order]
        count = torch.zeros_like(self.position).scatter_add_(
            0, labels, torch.ones_like(labels)
        )  # bincount would wait for the GPU
        number = (
            torch.arange(len(labels), device=labels.device) - (count.cumsum(0) - count)[labels]
        )  # 0, 1, ... per cluster
        target = labels * rows + (self.position[labels] + number) % rows
        if len(labels) > rows:  # only then can a bank overflow
            newest = number >= count[labels] - rows
            keys, target = keys[newest], target[newest]
        self.keys.view(-1, d)[target] = keys
        self.position.copy_((self.position + count) % rows)

    def resize(self, rows: int) -> None:
        """Changes the length of the banks; their present keys fill them, repeated as needed."""
        old = self.keys.shape[1]
        self.keys = self.keys[:, torch.arange(rows, device=self.keys.device) % old].clone()
        self.position.zero_()


class RowBank(nn.Module):
    """A row of probabilities for each image and head, a moving average of the network's outputs: CRLC's memory bank.

    `rows`: (heads, n, k), uniform at the start.
    """

    rows: Tensor

    def __init__(self, heads: int, n: int, k: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", torch.full((heads, n, k), 1 / k))

    @torch.no_grad()
    def move(self, index: Tensor, y: Tensor) -> None:
        """rows <- momentum * rows + (1 - momentum) * y. `index`: (b,) images, `y`: (heads, b, k)."""
        self.rows[:, index] = self.rows[:, index].lerp(y.to(self.rows.dtype), 1 - self.momentum)

    def resize(self, n: int) -> None:
        """Starts again with uniform rows, for n images."""
        heads, _, k = self.rows.shape
        self.rows = torch.full((heads, n, k), 1 / k, device=self.rows.device)
