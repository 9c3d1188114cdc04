"""The reader's network: a plate crop in, ten slots of characters, a jurisdiction and the plate's place in the crop out.

Full 3x3 convolutions that reach low resolution early (depthwise ones are bound by memory on the machines that we train
and run on), a small transformer layer so that every place knows how many characters stand before it (two-line
plates included), and ten learned queries, one a slot. Training, augmentation and export are elsewhere.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.train.reader_data import ALPHABET, HEIGHT, SLOTS, WIDTH

ROWS, COLUMNS = HEIGHT // 16, WIDTH // 4
"""The map that the slots look at: finer across than down, since letters stand side by side."""
MIDDLE = (0.05, 0.08, 0.95, 0.92)
"""Where a plate is in a crop that was cut around it (`homeplate.vision.image`), before anything is learned."""


class ConvBlock(nn.Module):
    """3x3 convolution, batch norm, ReLU; with a residual path where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        """Take channels in and out and the strides down and across."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = stride == (1, 1) and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / down, W / across]."""
        out = self.norm(self.conv(features))
        return functional.relu(out + features if self.residual else out)


class Mixer(nn.Module):
    """A pre-norm transformer layer over the places of the feature map."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the width of a token and the number of heads."""
        super().__init__()
        self.heads = heads
        self.norm_attend, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [N, T, width] to the same shape.

        Layers are given rows [N * T, width], so that they come out as products with a bias; that runs in one step.
        """
        places, width = tokens.shape[1:]
        rows = tokens.reshape(-1, width)
        qkv = self.qkv(self.norm_attend(rows)).view(-1, places, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        fit = (query * (width // self.heads) ** -0.5) @ key.transpose(2, 3)
        mixed = (functional.softmax(fit, -1) @ value).transpose(1, 2).reshape(-1, width)
        rows = rows + self.out(mixed)
        rows = rows + self.down(functional.relu(self.up(self.norm_feed(rows))))
        return rows.view(-1, places, width)


def _whereabouts() -> Tensor:
    """Return where each query looks to begin with, [11, places]: one after the other from the left, the last anywhere.

    Without it the queries are all alike at first, and training needs thousands of steps to tell them apart.
    """
    columns = (torch.arange(COLUMNS) + 0.5) / COLUMNS
    centres = (0.15 + 0.115 * torch.arange(SLOTS)).clamp(max=0.93)
    row = -(((columns - centres[:, None]) / 0.1) ** 2) / 2
    return torch.cat([row.repeat(1, ROWS), torch.zeros(1, ROWS * COLUMNS)])


class Extent(nn.Module):
    """Where the plate is in its crop, by the backbone's map: the reader sees edges that the detector only guesses at.

    It is trained after the rest, which it leaves alone (`reader_extent`).
    """

    def __init__(self, width: int, channels: int = 16, hidden: int = 32) -> None:
        """Take the map's channels, to how many they are brought down, and the size of the hidden layer."""
        super().__init__()
        self.narrow = nn.Conv2d(width, channels, 1)
        self.hidden = nn.Linear(channels * ROWS * COLUMNS, hidden)
        self.edges = nn.Linear(hidden, 4)
        nn.init.zeros_(self.edges.weight)
        with torch.no_grad():
            self.edges.bias.copy_(torch.tensor(MIDDLE))

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, width, 4, 32] to left, top, right and bottom as shares of the crop's sides, [N, 4]."""
        seen = functional.relu(self.narrow(features)).flatten(1)
        edges: Tensor = self.edges(functional.relu(self.hidden(seen)))
        return edges


class Reader(nn.Module):
    """Plate crops to character and jurisdiction logits, and to the plate's place."""

    def __init__(self, jurisdictions: int, width: int = 128, mixers: int = 1) -> None:
        """Take the number of jurisdiction classes, the width of a token and the number of transformer layers."""
        super().__init__()
        half = width // 2
        self.backbone = nn.Sequential(
            ConvBlock(3, 32, (2, 2)),
            ConvBlock(32, half, (2, 2)),
            ConvBlock(half, half, (1, 1)),
            ConvBlock(half, width, (2, 1)),
            ConvBlock(width, width, (2, 1)),
            ConvBlock(width, width, (1, 1)),
        )
        self.places = nn.Parameter(torch.randn(ROWS * COLUMNS, width) * 0.1)
        self.mixers = nn.Sequential(*(Mixer(width, 4) for _ in range(mixers)))
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(SLOTS + 1, width) * 0.5)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.slots = nn.Parameter(torch.zeros(SLOTS, width))
        self.whereabouts = nn.Parameter(_whereabouts())
        self.characters = nn.Linear(width, len(ALPHABET))
        self.jurisdiction = nn.Linear(width, jurisdictions)
        self.extent = Extent(width)

    def forward(self, plates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read plates.

        Args:
            plates: [N, 3, 64, 128], about zero mean and unit deviation.

        Returns:
            Logits of characters, [N, 10, 37], and of the jurisdiction, [N, jurisdictions]; the plate's left, top, right
            and bottom as shares of the crop's sides, [N, 4].
        """
        features = self.backbone(plates)
        tokens = features.flatten(2).transpose(1, 2) + self.places
        places, width = tokens.shape[1:]
        rows = self.norm(self.mixers(tokens)).reshape(-1, width)
        key, value = (layer(rows).view(-1, places, width) for layer in (self.key, self.value))
        fit = (self.queries * width**-0.5) @ key.transpose(1, 2)
        seen = functional.softmax(fit + self.whereabouts, -1) @ value
        characters = self.characters(functional.relu(seen[:, :SLOTS] + self.slots))
        return characters, self.jurisdiction(functional.relu(seen[:, SLOTS])), self.extent(features)
