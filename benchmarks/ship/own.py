"""Thirty networks of kinds that no collection of classifiers has: segmentation, text in images, graphs, sound, tables.

`NETS` maps a name to the function that builds the network and to its entry of the list, whose inputs are in the syntax
of `seaway ship`: an open size has a letter, and its range in `sizes`.
"""

import itertools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Entry = dict[str, Any]
NETS: dict[str, tuple[Callable[[], nn.Module], Entry]] = {}


def net(*inputs: str, **entry: Any) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Adds a function or class to NETS under its name, PackedLstm as packed_lstm."""

    def add(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        NETS[re.sub(r"(?<!^)(?=[A-Z])", "_", build.__name__).lower()] = (build, {"inputs": list(inputs), **entry})
        return build

    return add


def _segmentation() -> None:
    """All architectures of segmentation_models_pytorch, each with a small encoder."""
    encoders = {"Segformer": "mit_b0", "DPT": "tu-vit_tiny_patch16_224"}
    names = ("DPT", "DeepLabV3", "DeepLabV3Plus", "FPN", "Linknet", "MAnet", "PAN", "PSPNet", "Segformer", "UPerNet")
    for name in (*names, "Unet", "UnetPlusPlus"):

        def build(name: str = name) -> nn.Module:
            import segmentation_models_pytorch as smp

            options = {"encoder_name": encoders.get(name, "resnet18"), "encoder_weights": None, "classes": 5}
            made: nn.Module = getattr(smp, name)(**options)
            return made

        side = 224 if name == "DPT" else 128  # its encoder has a fixed grid
        NETS[f"smp_{name}"] = (build, {"inputs": [f"3x{side}x{side}"]})


_segmentation()


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layers = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    return nn.Sequential(*layers)


@net("image:1x32xW", sizes=["W=32..160"])
class CrnnCtc(nn.Module):
    """Text in images: columns of a convolution's features, a bidirectional LSTM, log-probabilities for CTC."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(_convolution(1, 16), nn.MaxPool2d(2), _convolution(16, 32), nn.MaxPool2d(2), _convolution(32, 64))
        )
        self.lstm = nn.LSTM(64 * 8, 48, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(96, 37)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        columns = self.features(image).permute(0, 3, 1, 2).flatten(2)
        return F.log_softmax(self.head(self.lstm(columns)[0]), dim=-1)


@net("ids:L:int64", "lengths:scalar:int64", sizes=["L=2..24"], high={"ids": 100, "lengths": "L"}, low={"lengths": 1})
class PackedLstm(nn.Module):
    """A classifier of sequences of different lengths, packed so that the LSTM does not see the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 32)
        self.lstm = nn.LSTM(32, 48, batch_first=True, bidirectional=True)
        self.head = nn.Linear(96, 5)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        logits: torch.Tensor = self.head(torch.cat([hidden[0], hidden[1]], dim=1))
        return logits


@net("nodes:Vx8", "edges:Ex2:int64", sizes=["V=3..20", "E=1..40"], high={"edges": "V"})
class GnnScatter(nn.Module):
    """Two rounds of messages along edges, summed at their targets by scatter_add; one row per graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 32)
        self.own_first, self.own_second = nn.Linear(8, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        hidden = self._round(nodes, edges, self.first, self.own_first)
        hidden = self._round(hidden, edges, self.second, self.own_second)
        logits: torch.Tensor = self.head(hidden.mean(dim=1))
        return logits

    def _round(self, x: torch.Tensor, edges: torch.Tensor, message: nn.Module, own: nn.Module) -> torch.Tensor:
        messages = message(x)
        source, target = (edges[..., i].unsqueeze(-1).expand(-1, -1, messages.shape[-1]) for i in (0, 1))
        sent = torch.gather(messages, 1, source)
        received = torch.zeros_like(messages).scatter_add(1, target, sent)
        return F.relu(own(x) + received)


@net("image:3x96x96")
class YoloNms(nn.Module):
    """A detector with one scale: the 32 best boxes per image, those that a better one covers with a score of zero."""

    def __init__(self) -> None:
        super().__init__()
        widths = 3, 16, 32, 64, 64
        self.backbone = nn.Sequential(*(_convolution(a, b, 2) for a, b in itertools.pairwise(widths)))
        self.head = nn.Conv2d(64, 3 * (5 + 4), 1)
        nn.init.normal_(self.head.weight, 0, 0.3)  # so that all classes occur
        self.register_buffer("anchors", torch.tensor([[12.0, 16.0], [24.0, 20.0], [40.0, 48.0]]))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.head(self.backbone(image))
        n, _, h, w = out.shape
        out = out.reshape(n, 3, 9, h, w).permute(0, 1, 3, 4, 2)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([xs, ys], dim=-1).to(out.dtype)
        centre = (out[..., :2].sigmoid() * 2 - 0.5 + grid) * 16
        size = (out[..., 2:4].sigmoid() * 2) ** 2 * self.anchors.reshape(1, 3, 1, 1, 2)  # type: ignore[operator]
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1).reshape(n, -1, 4)
        classes = out[..., 5:].sigmoid() * out[..., 4:5].sigmoid()
        scores, best = classes.reshape(n, -1, 4).max(dim=-1)
        scores, order = scores.topk(32, dim=1)
        boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        kept = self._kept(boxes)
        return {"boxes": boxes, "scores": scores * kept, "classes": best.gather(1, order)}

    def _kept(self, boxes: torch.Tensor) -> torch.Tensor:
        """Greedy suppression over boxes in the order of their scores: 1 for those that stay."""
        low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
        high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=-1)
        area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
        covered = (overlap / (area[:, :, None] + area[:, None] - overlap) > 0.5).to(boxes.dtype)
        kept = torch.ones_like(boxes[..., 0])
        for i in range(1, boxes.shape[1]):
            hidden = (covered[:, i, :i] * kept[:, :i]).amax(dim=1)
            kept = torch.cat([kept[:, :i], (1 - hidden).unsqueeze(1), kept[:, i + 1 :]], dim=1)
        return kept


@net("image:3x48x48")
class EinopsVit(nn.Module):
    """A small vision transformer written with einops' functions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, 64)
        self.position = nn.Parameter(torch.randn(1, 37, 64) * 0.1)
        self.token = nn.Parameter(torch.randn(1, 1, 64))
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(4))
        self.qkv = nn.ModuleList(nn.Linear(64, 192) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)) for _ in range(2))
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        from einops import rearrange, repeat

        x = self.embed(rearrange(image, "b c (h p) (w q) -> b (h w) (p q c)", p=8, q=8))
        x = torch.cat([repeat(self.token, "1 1 d -> b 1 d", b=x.shape[0]), x], dim=1) + self.position
        for i in range(2):
            q, k, v = rearrange(self.qkv[i](self.norms[2 * i](x)), "b n (t h d) -> t b h n d", t=3, h=4)
            attention = torch.einsum("bhid,bhjd->bhij", q, k).div(4).softmax(dim=-1)
            x = x + rearrange(torch.einsum("bhij,bhjd->bhid", attention, v), "b h n d -> b n (h d)")
            x = x + self.mlp[i](self.norms[2 * i + 1](x))
        logits: torch.Tensor = self.head(x[:, 0])
        return logits


@net("image:3x32x32")
def einops_mixer() -> nn.Module:
    """An MLP-Mixer written with einops' layers."""
    from einops.layers.torch import Rearrange, Reduce

    def block() -> nn.Module:
        class Residual(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x + self.inner(x)  # type: ignore[no-any-return]

        tokens = nn.Sequential(
            *(nn.LayerNorm(48), Rearrange("b n d -> b d n"), nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64)),
            Rearrange("b d n -> b n d"),
        )
        channels = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 48))
        return nn.Sequential(Residual(tokens), Residual(channels))

    patches = Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=4, q=4)
    pool = Reduce("b n d -> b d", "mean")
    return nn.Sequential(patches, nn.Linear(48, 48), block(), block(), nn.LayerNorm(48), pool, nn.Linear(48, 10))


@net("ids:L:int64", "padding:L:bool", sizes=["L=2..24"], high={"ids": 100}, masks=["padding"], invert=["padding"])
class TransformerEncoder(nn.Module):
    """PyTorch's own encoder layers, with padding that no token attends to."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 48)
        layer = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(48, 6)

    def forward(self, ids: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(self.embedding(ids), src_key_padding_mask=padding)
        weights = (~padding).to(hidden.dtype).unsqueeze(-1)
        logits: torch.Tensor = self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))
        return logits


@net("ids:L:int64", sizes=["L=1..24"], high={"ids": 100})
class GruTagger(nn.Module):
    """A label for each token: a bidirectional GRU of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 32)
        self.gru = nn.GRU(32, 40, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(80, 9)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.gru(self.embedding(ids))[0])
        return logits


@net("ids:L:int64", sizes=["L=2..16"], high={"ids": 60})
class Seq2seqAttention(nn.Module):
    """An encoder, and six greedy steps of a decoder that attends to it: the logits of each step and the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32)
        self.encoder = nn.GRU(32, 48, batch_first=True)
        self.cell = nn.GRUCell(32 + 48, 48)
        self.head = nn.Linear(96, 60)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        memory, last = self.encoder(self.embedding(ids))
        hidden, token = last[0], torch.zeros_like(ids[:, 0])
        steps, tokens = [], []
        for _ in range(6):
            weights = torch.bmm(memory, hidden.unsqueeze(-1)).squeeze(-1).softmax(dim=-1)
            context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
            hidden = self.cell(torch.cat([self.embedding(token), context], dim=-1), hidden)
            logits = self.head(torch.cat([hidden, context], dim=-1))
            token = logits.argmax(dim=-1)
            steps.append(logits)
            tokens.append(token)
        return torch.stack(steps, dim=1), torch.stack(tokens, dim=1)


@net("numbers:7", "categories:3:int64", high={"categories": 20})
class WideDeep(nn.Module):
    """A table's numbers and categories: a linear part, pairs of embeddings, and a deep part."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(20, 8) for _ in range(3))
        self.norm = nn.BatchNorm1d(7)
        self.wide = nn.Linear(7, 2)
        self.deep = nn.Sequential(nn.Linear(31, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
        self.pairs = nn.Linear(1, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        numbers = self.norm(numbers)
        rows = torch.stack([table(categories[:, i]) for i, table in enumerate(self.tables)], dim=1)
        pairs = 0.5 * (rows.sum(dim=1) ** 2 - (rows**2).sum(dim=1)).sum(dim=1, keepdim=True)
        out: torch.Tensor = self.wide(numbers) + self.pairs(pairs)
        return out + self.deep(torch.cat([numbers, rows.flatten(1)], dim=1))


@net("image:1x28x28")
class Vae(nn.Module):
    """A variational autoencoder in eval mode: the reconstruction from the mean, the mean and the log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(_convolution(1, 16, 2), _convolution(16, 32, 2), nn.Flatten())
        self.mean, self.log_variance = nn.Linear(32 * 49, 12), nn.Linear(32 * 49, 12)
        self.spread = nn.Sequential(nn.Linear(12, 32 * 49), nn.Unflatten(1, (32, 7, 7)))
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 3, 2, 1, output_padding=1)),
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.encoder(image)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return {"image_out": self.decoder(self.spread(z)).sigmoid(), "mean": mean, "log_variance": log_variance}


@net("user:5:int64", "item:3:int64", high={"user": 50, "item": 50})
class TwoTower(nn.Module):
    """Two unit vectors and their product: bags of embeddings of a user's history and of an item's tags."""

    def __init__(self) -> None:
        super().__init__()
        self.user_bag, self.item_bag = nn.EmbeddingBag(50, 24, mode="mean"), nn.EmbeddingBag(50, 24, mode="sum")
        self.user_net, self.item_net = nn.Linear(24, 16), nn.Linear(24, 16)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        a = F.normalize(self.user_net(self.user_bag(user)), dim=-1)
        b = F.normalize(self.item_net(self.item_bag(item)), dim=-1)
        return (a * b).sum(dim=-1, keepdim=True), a, b


@net("wave:1xT", sizes=["T=64..256"])
class Wavenet(nn.Module):
    """Dilated causal convolutions with gates and skips: 32 logits for each moment."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 24, 1)
        self.gates = nn.ModuleList(nn.Conv1d(24, 48, 2, dilation=2**i) for i in range(5))
        self.skips = nn.ModuleList(nn.Conv1d(24, 24, 1) for _ in range(5))
        self.head = nn.Conv1d(24, 32, 1)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        x = self.first(wave)
        total = torch.zeros_like(x)
        for i, (gate, skip) in enumerate(zip(self.gates, self.skips, strict=True)):
            a, b = gate(F.pad(x, (2**i, 0))).chunk(2, dim=1)
            out = skip(a.tanh() * b.sigmoid())
            x, total = x + out, total + out
        logits: torch.Tensor = self.head(F.relu(total))
        return logits


@net("wave:2000")
class StftClassifier(nn.Module):
    """Sound: the power spectrum in bands, and a small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(256))
        self.register_buffer("bands", torch.rand(129, 24) / 12)
        self.net = nn.Sequential(_convolution(1, 16, 2), _convolution(16, 32, 2), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(32, 8)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(wave, 256, 128, window=self.window, return_complex=True)  # type: ignore[arg-type]
        bands = torch.log(spectrum.abs().square().transpose(1, 2) @ self.bands + 1e-3)  # type: ignore[operator]
        logits: torch.Tensor = self.head(self.net(bands.unsqueeze(1)).flatten(1))
        return logits


@net("left:3x48x48", "right:3x48x48", activation="none")
class Siamese(nn.Module):
    """The distance of two images in an embedding."""

    def __init__(self) -> None:
        super().__init__()
        layers = _convolution(3, 16, 2), _convolution(16, 32, 2), _convolution(32, 48, 2)
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(192, 32))

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(self.net(left) - self.net(right), dim=-1, keepdim=True)


@net("points:Px3", sizes=["P=8..64"])
class Pointnet(nn.Module):
    """Points in any order and number: a transform that is computed from them, and the maximum over all."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1))
        self.matrix = nn.Linear(64, 9)
        self.features = nn.Sequential(nn.Conv1d(3, 48, 1), nn.BatchNorm1d(48), nn.ReLU(), nn.Conv1d(48, 96, 1))
        self.head = nn.Linear(96, 10)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        columns = points.transpose(1, 2)
        matrix = self.matrix(self.transform(columns).amax(dim=2)).reshape(-1, 3, 3)
        moved = torch.bmm(points, matrix + torch.eye(3))
        logits: torch.Tensor = self.head(self.features(moved.transpose(1, 2)).amax(dim=2))
        return logits


@net("image:1x32x32")
class SpatialTransformer(nn.Module):
    """A classifier that first straightens its image: affine_grid and grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(_convolution(1, 8, 2), _convolution(8, 16, 2), nn.Flatten(), nn.Linear(1024, 6))
        self.net = nn.Sequential(_convolution(1, 16, 2), _convolution(16, 32, 2), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        unit = torch.tensor([1.0, 0, 0, 0, 1, 0])
        theta = (unit + 0.3 * self.locate(image).tanh()).reshape(-1, 2, 3)
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        straight = F.grid_sample(image, grid, align_corners=False)
        logits: torch.Tensor = self.head(self.net(straight).flatten(1))
        return logits


@net("x:Lx16", sizes=["L=1..16"])
class MixtureOfExperts(nn.Module):
    """Each token goes to the two best of six experts; the experts' weights are indexed, not looped over."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 6)
        self.first = nn.Parameter(torch.randn(6, 16, 32) / 4)
        self.second = nn.Parameter(torch.randn(6, 32, 16) / 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        routes = self.router(x)
        weights, chosen = routes.softmax(dim=-1).topk(2, dim=-1)
        hidden = F.gelu(torch.einsum("blc,blkch->blkh", x, self.first[chosen]))
        outputs = torch.einsum("blkh,blkhc->blkc", hidden, self.second[chosen])
        return (outputs * weights.unsqueeze(-1)).sum(dim=2), routes
