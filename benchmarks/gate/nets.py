"""Small networks of many families, whose operators the benchmark of the gate mutates.

`NETS` maps a name to the function that builds the network (`python:benchmarks.gate.nets:NAME`), in eval mode and with a
seed of its own, and to its entry: inputs and open sizes in the syntax of `seaway ship`, limits of random integers as in
`benchmarks/ship/exactness.py`, and, of classifiers, their `activation`.
"""

import functools
import re
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.ship import builders

Entry = dict[str, Any]
NETS: dict[str, tuple[Callable[[], nn.Module], Entry]] = {}


def net(*inputs: str, **entry: Any) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Adds a function or class to NETS under its name, WideResNet as wide_res_net."""

    def add(made: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", made.__name__).lower()
        NETS[name] = (functools.partial(build, name, made), {"name": name, "inputs": list(inputs), **entry})
        return made

    return add


def build(name: str, made: Callable[[], nn.Module]) -> nn.Module:
    """The network in eval mode, with constant vectors and running statistics as training leaves them."""
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    network = made().eval()
    builders.spread(network, seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None:
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3, generator=generator)
            layer.running_var.uniform_(0.3, 1.5, generator=generator)
    return network


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """The function that builds a network, by its name in NETS."""
    if name not in NETS:
        raise AttributeError(f"no network {name!r}; choose one of {', '.join(NETS)}")
    return NETS[name][0]


def _convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layers = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6()
    return nn.Sequential(*layers)


@net("image:1x16x16", activation="softmax")
def cnn_classifier() -> nn.Module:
    """Convolutions, max pooling and dense layers."""
    features = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()
    return nn.Sequential(*features, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(108, 24), nn.ReLU(), nn.Linear(24, 10))


@net("image:3x24x24", activation="softmax")
class Resnet(nn.Module):
    """Residual blocks with BatchNorm, which exporters fold or keep."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(12) for _ in range(4))
        self.convolutions = nn.ModuleList(nn.Conv2d(12, 12, 3, padding=1, bias=False) for _ in range(4))
        self.head = nn.Linear(12, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        for i in (0, 2):
            inner = F.relu(self.norms[i](self.convolutions[i](x)))
            x = F.relu(x + self.norms[i + 1](self.convolutions[i + 1](inner)))
        logits: torch.Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


@net("image:3x24x24", activation="softmax")
class Mobilenet(nn.Module):
    """Depthwise convolutions, Hardswish, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = _convolution(16, 16, groups=16)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1))
        self.project = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.last = _convolution(16, 24, 2)
        self.head = nn.Linear(24, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        inner = self.depthwise(x)
        inner = inner * F.hardsigmoid(self.squeeze(inner))
        x = self.last(x + self.project(inner))
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


@net("image:4x16x16")
class GroupedConv(nn.Module):
    """Grouped convolutions with a channel shuffle, LeakyReLU and PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 16, 3, padding=1, groups=2)
        self.second = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.third = nn.Conv2d(16, 16, 1, groups=4, bias=False)
        self.slope = nn.PReLU(16)
        self.head = nn.Linear(16, 6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.first(image), 0.1)
        n, c, h, w = x.shape
        x = x.reshape(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x + self.slope(self.second(x))
        x = F.elu(self.third(F.avg_pool2d(x, 2)))
        logits: torch.Tensor = self.head(x.amax(dim=(2, 3)))
        return logits


@net("image:2xHxW", sizes=["H=8..32:8", "W=8..32:8"], activation="")
class Unet(nn.Module):
    """Segmentation: down, up by bilinear and by nearest interpolation, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_convolution(2, 8), _convolution(8, 12), _convolution(12, 16)])
        self.up = nn.ModuleList([_convolution(28, 12), _convolution(20, 8)])
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.down[0](image)
        second = self.down[1](F.max_pool2d(first, 2))
        x = self.down[2](F.avg_pool2d(second, 2))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.up[0](torch.cat([x, second], dim=1))
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        out: torch.Tensor = self.head(self.up[1](torch.cat([x, first], dim=1)))
        return out


@net("image:3x21x21", activation="softmax")
class Vgg(nn.Module):
    """Max and average pooling with ceil_mode on odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.third = nn.Conv2d(12, 12, 3, padding=1)
        self.dense = nn.Sequential(nn.Linear(12 * 9, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 7))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.first(image)), 2, ceil_mode=True)
        x = F.avg_pool2d(F.relu(self.second(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(F.relu(self.third(x)), 3, 2, padding=1)
        logits: torch.Tensor = self.dense(x.flatten(1))
        return logits


@net("image:2x15x15")
def average_pools() -> nn.Module:
    """Average pooling with and without the pad in the count, and convolutions whose pads are not symmetric."""
    first = nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(2, 8, 3), nn.Softplus(), nn.AvgPool2d(3, 2, 1)
    second = nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    third = nn.ReflectionPad2d((1, 0, 1, 0)), nn.Conv2d(8, 8, 2), nn.ReplicationPad2d((0, 1, 0, 1))
    return nn.Sequential(*first, *second, *third, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))


class _Attention(nn.Module):
    """Attention of several heads, written out; `memory` is what it attends to."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = self._split(self.query(x)), self._split(self.key(memory)), self._split(self.value(memory))
        scores = q @ k.transpose(-1, -2) * self.scale
        if mask is not None:
            scores = scores.masked_fill(mask, float("-inf"))
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        out: torch.Tensor = self.out(mixed)
        return out

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


@net("ids:L:int64", sizes=["L=2..16"], high={"ids": 40})
class TextEncoder(nn.Module):
    """A transformer encoder: token 0 is padding that nothing attends to; LayerNorm, GELU, mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(40, 24), nn.Embedding(16, 24)
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(3))
        self.attention = nn.ModuleList(_Attention(24, 3) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.head = nn.Linear(24, 6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1])
        hidden = self.embedding(ids) + self.position(places)
        padding = ((ids == 0) & (places > 0))[:, None, None, :]
        normed = self.norms[0](hidden)
        hidden = hidden + self.attention[0](normed, normed, padding)
        normed = self.norms[1](hidden)
        hidden = hidden + self.attention[1](normed, normed, padding)
        hidden = hidden + self.mlp(self.norms[2](hidden))
        kept = (ids > 0).to(hidden.dtype).unsqueeze(-1)
        logits: torch.Tensor = self.head((hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1))
        return logits


@net("image:3x16x16", activation="softmax")
class Vit(nn.Module):
    """Patches as tokens, square weights, GELU in its tanh form, a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 24)), nn.Parameter(torch.randn(1, 17, 24) * 0.3)
        self.norms = nn.ModuleList(nn.LayerNorm(24, eps=1e-6) for _ in range(3))
        self.attention = _Attention(24, 2)
        self.mlp = nn.Sequential(nn.Linear(24, 24), nn.GELU("tanh"), nn.Linear(24, 24))
        self.head = nn.Linear(24, 9)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed)
        x = x + self.mlp(self.norms[1](x))
        logits: torch.Tensor = self.head(self.norms[2](x)[:, 0])
        return logits


@net("tokens:Lx16", "memory:Mx16", sizes=["L=1..9", "M=1..9"])
class CrossAttention(nn.Module):
    """PyTorch's own attention: causal on itself, then on a second input; RMSNorm and SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.itself, self.cross = (nn.Linear(16, 48), nn.Linear(16, 16)), _Attention(16, 2)
        self.qkv, self.out = self.itself
        self.scale = nn.Parameter(torch.ones(16))
        self.gate, self.up, self.down = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = tokens + self.out(mixed.transpose(1, 2).flatten(2))
        x = x + self.cross(x, memory)
        normed = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-5) * self.scale
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))  # type: ignore[no-any-return]


@net("series:Tx6", sizes=["T=2..12"])
class LstmForecast(nn.Module):
    """A bidirectional LSTM over numbers, its last state and all its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(20, 3)

    def forward(self, series: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, (hidden, _) = self.lstm(series)
        return self.head(outputs), hidden[-1] - hidden[-2]


@net("ids:L:int64", sizes=["L=1..12"], high={"ids": 30})
class GruTagger(nn.Module):
    """A bidirectional GRU over embeddings, and a plain RNN; a label for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.gru = nn.GRU(12, 10, batch_first=True, bidirectional=True)
        self.rnn = nn.RNN(20, 12, batch_first=True)
        self.head = nn.Linear(12, 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.rnn(self.gru(self.embedding(ids))[0])[0])
        return F.log_softmax(logits, dim=-1)


@net("ids:12:int64", "offset:scalar:int64", high={"ids": 50, "offset": 12})
class TextBag(nn.Module):
    """A text classifier of embedded tokens, their bigrams by hashing, and the token at a given place."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.bigrams = nn.Embedding(50, 16), nn.Embedding(32, 16)
        self.dense = nn.Sequential(nn.Linear(48, 24), nn.SELU(), nn.Linear(24, 5))

    def forward(self, ids: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        embedded = self.words(ids)
        hashed = (ids[:, :-1] * 31 + ids[:, 1:]) % 32
        pairs = self.bigrams(hashed).amax(dim=1)
        place = offset.clamp(0, 11)[:, None, None].expand(-1, 1, 16)
        here = embedded.gather(1, place).squeeze(1)
        logits: torch.Tensor = self.dense(torch.cat([embedded.mean(dim=1), pairs, here], dim=-1))
        return logits


@net("x:12")
class ClippedMlp(nn.Module):
    """Dense layers with ReLU6, Hardtanh, Hardswish and clips, as of a policy for control."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((12, 24), (24, 24), (24, 24), (24, 24), (24, 4)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu6(self.layers[0](x.clamp(-3, 3)) * 3)
        x = F.hardtanh(self.layers[1](x))
        x = F.hardswish(self.layers[2](x) * 4)
        x = x + F.relu(self.layers[3](x))
        last = self.layers[4](x)
        return last.clamp(min=-0.5, max=0.5), last[:, :2].clamp(min=-8)


@net("image:3x32x32")
class Detector(nn.Module):
    """A head for boxes: the best eight by top-k and gather, with sigmoid, exp and clipped corners."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(_convolution(3, 8, 2), _convolution(8, 12, 2), nn.Conv2d(12, 16, 3, 2, 1))
        self.head = nn.Conv2d(16, 2 * 7, 1)
        nn.init.normal_(self.head.weight, 0, 0.5)
        self.register_buffer("anchors", torch.tensor([[6.0, 9.0], [14.0, 10.0]]))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.head(F.silu(self.backbone(image)))
        n, _, h, w = out.shape
        out = out.reshape(n, 2, 7, h, w).permute(0, 1, 3, 4, 2)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centre = (out[..., :2].sigmoid() * 2 - 0.5 + torch.stack([xs, ys], dim=-1)) * 8
        size = out[..., 2:4].clamp(max=2.0).exp() * self.anchors[None, :, None, None]  # type: ignore[index]
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1).clamp(0, 31).reshape(n, -1, 4)
        scores, classes = (out[..., 5:].softmax(dim=-1) * out[..., 4:5].sigmoid()).reshape(n, -1, 2).max(dim=-1)
        best, order = scores.topk(8, dim=1)
        kept = torch.where(best > 0.3, best, torch.zeros_like(best))
        chosen = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        return {"boxes": chosen, "scores": kept, "classes": classes.gather(1, order)}


@net("nodes:Vx8", "edges:Ex2:int64", sizes=["V=3..12", "E=1..20"], high={"edges": "V"})
class GraphNet(nn.Module):
    """Messages along edges, summed and taken the maximum of at their targets."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 16)
        self.own = nn.Linear(8, 16)
        self.head = nn.Linear(32, 4)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        messages = self.first(nodes)
        source, target = (edges[..., i].unsqueeze(-1).expand(-1, -1, 16) for i in (0, 1))
        sent = messages.gather(1, source)
        summed = torch.zeros_like(messages).scatter_add(1, target, sent)
        hidden = F.relu(self.own(nodes) + summed)
        sent = self.second(hidden).gather(1, source)
        most = torch.full_like(messages, -4.0).scatter_reduce(1, target, sent, "amax")
        logits: torch.Tensor = self.head(torch.cat([hidden.mean(dim=1), most.amax(dim=1)], dim=-1))
        return logits


@net("image:4x12x12")
class GroupNorms(nn.Module):
    """GroupNorm, InstanceNorm and LayerNorm over channels, as of ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.group, self.instance = nn.GroupNorm(3, 12), nn.InstanceNorm2d(12, affine=True)
        self.layer = nn.LayerNorm(12, eps=1e-6)
        self.head = nn.Linear(12, 12)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = F.mish(self.group(self.first(image)))
        x = x + F.gelu(self.instance(self.second(x)))
        x = self.layer(x.permute(0, 2, 3, 1))
        out: torch.Tensor = self.head(x).mean(dim=(1, 2))
        return out


@net("wave:2xT", sizes=["T=16..48:4"])
class DilatedTransposed(nn.Module):
    """Dilated causal convolutions with gates, a strided one and transposed ones back to the length."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 8, 3, dilation=2)
        self.gate = nn.Conv1d(8, 16, 2, dilation=4)
        self.down = nn.Conv1d(8, 12, 4, stride=4)
        self.up = nn.ModuleList([nn.ConvTranspose1d(12, 8, 4, 2, 1), nn.ConvTranspose1d(8, 4, 3, 2, 1, 1)])

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(F.pad(wave, (4, 0))))
        a, b = self.gate(F.pad(x, (4, 0))).chunk(2, dim=1)
        x = x + a.tanh() * b.sigmoid()
        x = F.relu(self.up[0](self.down(x)))
        out: torch.Tensor = self.up[1](x)
        return out


@net("image:2x14x14")
class GridSample(nn.Module):
    """A spatial transformer: an affine grid, samples of three modes, and interpolation with aligned corners."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6))
        self.head = nn.Conv2d(6, 4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        unit = torch.tensor([1.0, 0, 0, 0, 1, 0])
        theta = (unit + 0.4 * self.locate(image).tanh()).reshape(-1, 2, 3)
        grid = F.affine_grid(theta, list(image.shape), align_corners=True)
        straight = F.grid_sample(image, grid, align_corners=False)
        border = F.grid_sample(image, grid * 1.3, padding_mode="border", align_corners=True)
        small = F.interpolate(image, size=(7, 9), mode="bilinear", align_corners=True)
        back = F.interpolate(small, size=(14, 14), mode="nearest")
        x = self.head(torch.cat([straight, border, back], dim=1))
        x = F.interpolate(x, size=(10, 10), mode="bicubic", align_corners=False)
        return x.flatten(2).amax(dim=2)


@net("x:20")
class HalfInside(nn.Module):
    """Keeps weights as float16, and rounds what it computes to integers of eight bits, as on small chips."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(20, 20), nn.Linear(20, 4)
        self.register_buffer("gain", torch.rand(20).half() + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.gain.float()  # type: ignore[operator]
        steps = (x * 16).round().clamp(-128, 127)
        x = F.relu(self.first(steps / 16)) + x
        logits: torch.Tensor = self.last(torch.tanh(x))
        return logits


@net("codes:6:int64", "numbers:5", high={"codes": 1000})
class Integers(nn.Module):
    """Integer arithmetic: //, %, floor, ceil, trunc, comparisons, shifts by powers of two."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 8)
        self.dense = nn.Linear(16, 4)

    def forward(self, codes: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shifted = codes - 500
        buckets = (shifted // 7) % 16
        digits = torch.div(shifted, 3, rounding_mode="trunc").remainder(5) + torch.fmod(shifted, 4)
        parts = torch.stack([numbers.floor(), numbers.ceil(), (numbers * 3).trunc(), numbers.round()], dim=1)
        clipped = torch.where(numbers <= 0.5, numbers, numbers.sign()).cumsum(dim=1)
        features = torch.cat([self.table(buckets).mean(dim=1), parts.mean(dim=1)[:, :3], clipped], dim=1)
        return self.dense(features), digits


@net("x:5x8")
class Reductions(nn.Module):
    """Reductions of many kinds over axes of a table with missing values, which are NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 8)
        self.head = nn.Linear(40, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        known = torch.where(torch.isnan(x), torch.zeros_like(x), x).clamp(-100, 100)
        x = self.dense(known)
        spread = x.std(dim=1, unbiased=False)
        norms = F.normalize(x, dim=-1).sum(dim=1)
        highest, lowest = x.amax(dim=1), torch.minimum(x.amin(dim=1), known.mean(dim=1))
        total = x.logsumexp(dim=1) + x.prod(dim=1).tanh()
        logits: torch.Tensor = self.head(torch.cat([spread, norms, highest, lowest, total], dim=-1))
        return logits


@net("x:6x6")
class EinsumNet(nn.Module):
    """Bilinear forms by einsum on square tensors, softmax over rows, triangles."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 6) / 2), nn.Parameter(torch.randn(6, 6, 6) / 3)
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.einsum("bij,jk->bik", x, self.first) + self.bias
        weights = (y - y.transpose(1, 2)).triu().softmax(dim=1)
        z = torch.einsum("bij,jkl,bik->bil", weights, self.second, y)
        return z.sum(dim=1), torch.einsum("bii->bi", weights @ x.transpose(1, 2))


@net("image:3x8x8")
class SuperResolution(nn.Module):
    """Pixel shuffle and its inverse, residual scaling, a clipped image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(12, 16, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 3, padding=1))
        self.last = nn.Conv2d(16, 48, 3, padding=1, padding_mode="replicate")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.first(F.pixel_unshuffle(image, 2))
        x = x + 0.2 * self.body(x)
        up = F.pixel_shuffle(self.last(x), 4)
        enlarged = F.interpolate(image, scale_factor=2, mode="bicubic", align_corners=False)
        return (up + enlarged).clamp(-1, 1)


@net("x:Lx12", sizes=["L=1..8"])
class Experts(nn.Module):
    """A mixture of experts: the two best of four by top-k, their weights indexed, a softmax over the chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(12, 4, bias=False)
        self.first, self.second = nn.Parameter(torch.randn(4, 12, 16) / 4), nn.Parameter(torch.randn(4, 16, 12) / 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best, chosen = self.router(x).topk(2, dim=-1)
        hidden = F.gelu(torch.einsum("blc,blkch->blkh", x, self.first[chosen]))
        out = torch.einsum("blkh,blkhc->blkc", hidden, self.second[chosen])
        return (out * best.softmax(dim=-1).unsqueeze(-1)).sum(dim=2), chosen


@net("numbers:7", "categories:3:int64", high={"categories": 12})
class WideDeep(nn.Module):
    """A table's numbers and categories: BatchNorm1d, embeddings, pairs of them, a deep part."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(12, 6) for _ in range(3))
        self.norm, self.inner = nn.BatchNorm1d(7), nn.BatchNorm1d(25)
        self.wide, self.deep = nn.Linear(7, 3), nn.Sequential(nn.Linear(25, 25), nn.Sigmoid(), nn.Linear(25, 3))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        numbers = self.norm(numbers)
        rows = torch.stack([table(categories[:, i]) for i, table in enumerate(self.tables)], dim=1)
        pairs = 0.5 * (rows.sum(dim=1).square() - rows.square().sum(dim=1)).sum(dim=1, keepdim=True)
        deep = self.inner(torch.cat([numbers, rows.flatten(1)], dim=1))
        return self.wide(numbers) + pairs + self.deep(deep)  # type: ignore[no-any-return]
