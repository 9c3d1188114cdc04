"""The detector's network, its loss and its decoding; what a picture is and how it is augmented is not decided here.

One class, no anchors: every cell of a stride-8 grid says how likely a plate's centre lies in it, how far the plate's
four sides are (CenterNet's heat map with FCOS's distances) and where the four corners lie inside that box. Plain 3x3
convolutions at low resolution, because depthwise ones are bound by memory on the processors this runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

STRIDE = 8
"""Pixels of the network's input a cell of its output."""
OUTPUTS = 13
"""A heat logit, four log distances (left, top, right, bottom) and eight corner fractions a cell."""
CELLS = 2
"""Cells across and down for which one place of the last layer speaks."""
DISTANCE_LIMIT = 5.0
"""Largest log distance in cells: e^5 cells are wider than any input."""
SURE = 0.25
"""Score from which a teacher's box and corners are learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSize:
    """Channels at strides 4, 8, 16 and 32, and residual blocks at strides 8, 16 and 32."""

    channels: tuple[int, int, int, int] = (32, 48, 96, 96)
    blocks: tuple[int, int, int] = (1, 1, 2)


def _unit(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2 if stride < 4 else 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Block(nn.Module):
    """A basic residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _unit(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.second[1].weight)  # a block begins as the identity (Goyal 2017)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _blocks(channels: int, count: int) -> list[_Block]:
    return [_Block(channels) for _ in range(count)]


class PlateNet(nn.Module):
    """Pictures [N, 3, H, W] scaled to -1..1, H and W multiples of 32, to raw heads [N, 13, H/8, W/8].

    The first convolution goes straight to stride 4: at strides 1 and 2 a picture costs more to carry than to compute
    (a quarter of the time of a network that began with two steps of 2). All that is done with both scales in view is
    done at stride 16, and each place there speaks for the four cells of stride 8 inside it.
    """

    def __init__(self, size: NetworkSize | None = None) -> None:
        super().__init__()
        size = size or NetworkSize()
        quarter, eighth, sixteenth, last = size.channels
        counts = size.blocks
        self.quarter = _unit(3, quarter, stride=4, kernel=6)
        self.eighth = nn.Sequential(_unit(quarter, eighth, 2), *_blocks(eighth, counts[0]))
        self.sixteenth = nn.Sequential(_unit(eighth, sixteenth, 2), *_blocks(sixteenth, counts[1]))
        self.last = nn.Sequential(_unit(sixteenth, last, 2), *_blocks(last, counts[2]))
        self.above = nn.Conv2d(last, sixteenth, 1)
        self.head = _unit(sixteenth, sixteenth)
        self.output = nn.Conv2d(sixteenth, OUTPUTS * CELLS**2, 1)
        bias = self.output.bias
        assert bias is not None
        with torch.no_grad():
            bias.zero_()
            bias[: CELLS**2] = -4.6  # a prior of 1 % (RetinaNet), else the first steps are spent on the empty cells

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sixteenth = self.sixteenth(self.eighth(self.quarter(x)))
        merged = sixteenth + functional.interpolate(self.above(self.last(sixteenth)), scale_factor=2.0)
        out: torch.Tensor = functional.pixel_shuffle(self.output(self.head(merged)), CELLS)
        return out


def centres(rows: int, columns: int) -> torch.Tensor:
    """The cells' centres in pixels, [2, rows, columns] (x, y)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack((x, y)).float() + 0.5) * STRIDE


def boxes_of(raw: torch.Tensor) -> torch.Tensor:
    """Boxes [N, 4, H, W] (left, top, right, bottom, pixels) of raw heads [N, 13, H, W]."""
    reach = raw[:, 1:5].clamp(-DISTANCE_LIMIT, DISTANCE_LIMIT).exp() * STRIDE
    grid = centres(raw.shape[2], raw.shape[3])
    return torch.cat((grid - reach[:, 0:2], grid + reach[:, 2:4]), dim=1)


def generalised_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """GIoU (Rezatofighi 2019) of boxes [K, 4] pairwise, [K]."""
    low = torch.maximum(a[:, :2], b[:, :2])
    high = torch.minimum(a[:, 2:], b[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    union = area_a + area_b - both
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return both / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def edges_off(boxes: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """How far the edges of boxes [K, 4] are off, in widths and heights of the true ones, half the sum, [K].

    Overlap alone forgives a box that is too large more than one that is too small, and where a network is unsure it
    then claims too much (a tenth of the height of small plates); an absolute gap aims at the middle.
    """
    size = (truth[:, 2:] - truth[:, :2]).clamp(min=1).repeat(1, 2)
    gap = (boxes - truth) / size
    return 0.5 * functional.smooth_l1_loss(gap, torch.zeros_like(gap), reduction="none", beta=0.05).sum(1)


def loss_of(raw: torch.Tensor, target: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Terms of the loss of raw heads [N, 13, H, W].

    `heat` [N, H, W] is 1 at a plate's cell and falls off around it, -1 where nothing is to be learnt; `box`
    [N, 4, H, W] in pixels and `weight` [N, H, W] hold for the cells near a plate's centre; `corners` [N, 8, H, W] are
    fractions of the box, `corner_weight` [N, H, W] is 0 where the corners are unknown. `taught` [N, 13, H, W], if it
    is there, are a teacher's raw heads.
    """
    raw = raw.float()
    heat, weight = target["heat"], target["weight"]
    logit = raw[:, 0]
    chance = logit.sigmoid()
    peak = heat >= 1.0
    plates = peak.sum().clamp(min=1)
    positive = functional.softplus(-logit) * (1 - chance) ** 2 * peak
    negative = functional.softplus(logit) * chance**2 * (1 - heat.clamp(0, 1)) ** 4 * ((heat >= 0) & ~peak)
    if "taught" in target:  # what a teacher takes for a plate may be one that nobody labelled
        negative = negative * (1 - target["taught"][:, 0].sigmoid())
    chosen = weight > 0
    picked = weight[chosen]
    boxes = boxes_of(raw).permute(0, 2, 3, 1)[chosen]
    truth = target["box"].permute(0, 2, 3, 1)[chosen]
    box = ((1 - generalised_iou(boxes, truth) + edges_off(boxes, truth)) * picked).sum() / picked.sum().clamp(min=1)
    known = target["corner_weight"]
    gap = functional.smooth_l1_loss(raw[:, 5:], target["corners"], reduction="none", beta=0.05).sum(1)
    corner = (gap * known).sum() / known.sum().clamp(min=1)
    heat_loss = (positive.sum() + negative.sum()) / plates
    losses = {"heat": heat_loss, "box": box, "corner": corner, "total": heat_loss + 2.0 * box + 0.5 * corner}
    if "taught" in target:
        taught = distance_to(raw, target["taught"], plates)
        losses |= {"taught": taught, "total": losses["total"] + taught}
    return losses


def distance_to(raw: torch.Tensor, taught: torch.Tensor, plates: torch.Tensor) -> torch.Tensor:
    """How far raw heads [N, 13, H, W] are from a teacher's, where either of them sees a plate.

    Scores by the cross entropy, weighted by the squared gap (quality focal loss, Li 2020); boxes and corners where the
    teacher is fairly sure, by its score. A teacher also knows the plates that nobody labelled.
    """
    chance, aim = raw[:, 0].sigmoid(), taught[:, 0].sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(raw[:, 0], aim, reduction="none")
    scores = (entropy * (chance.detach() - aim) ** 2).sum() / plates
    sure = aim > SURE
    if not sure.any():
        return scores
    weight = aim[sure] / aim[sure].sum()
    boxes, truth = (boxes_of(heads).permute(0, 2, 3, 1)[sure] for heads in (raw, taught))
    box = ((1 - generalised_iou(boxes, truth)) * weight).sum()
    corners, right = (heads[:, 5:].permute(0, 2, 3, 1)[sure] for heads in (raw, taught))
    gap = functional.smooth_l1_loss(corners, right, reduction="none", beta=0.05).sum(1)
    return scores + box + 0.25 * (gap * weight).sum()
