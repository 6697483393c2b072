"""Small nets over text, tokens int64 [n, t] → numbers, as ONNX files: `python text_nets.py FOLDER [EXPORTER ...]`.

Writes EXPORTER-NET.onnx. It is a program, because torch and TensorFlow cannot share a process.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

WORDS, WIDTH, HEADS, LONGEST = 20, 16, 2, 32


class Encoder(nn.Module):
    """nn.TransformerEncoder with a mask of what is padding (0), and the mean of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        padding = tokens == 0
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.layers(x, src_key_padding_mask=padding).masked_fill(padding[..., None], 0)
        return self.head(x.sum(1) / (~padding).sum(1, keepdim=True))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.all, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dense = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        query, key, value = (
            part.view(n, t, HEADS, WIDTH // HEADS).transpose(1, 2) for part in self.all(self.before(x)).split(WIDTH, 2)
        )
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, t, WIDTH))
        return x + self.dense(self.between(x))


class Decoder(nn.Module):
    """Each word sees those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        return self.norm(self.blocks(x)) @ self.words.weight.T


class Tagger(nn.Module):
    """A label for each word, read from both sides."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.read = kind(WIDTH, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.read(self.words(tokens))[0])


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(tokens).mean(1))


class Bag(Mean):
    """nn.EmbeddingBag, which takes a whole batch at once."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, WIDTH, mode="mean")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(tokens))


NETS = {
    "encoder": Encoder, "decoder": Decoder, "lstm": lambda: Tagger(nn.LSTM), "gru": lambda: Tagger(nn.GRU),
    "mean": Mean, "bag": Bag,
}  # fmt: skip


def export(net: nn.Module, exporter: str, path: Path) -> None:
    tokens = torch.randint(1, WORDS, (2, 7))
    names = {"input_names": ["tokens"], "output_names": ["scores"]}
    if exporter == "dynamo":
        free = torch.export.Dim.DYNAMIC
        shapes = ({0: free, 1: free},)
        torch.onnx.export(net, (tokens,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, **names)
    else:
        axes = {"tokens": {0: "n", 1: "t"}}
        torch.onnx.export(net, (tokens,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)


def main() -> None:
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention of inference has no ONNX operator
    folder, exporters = Path(sys.argv[1]), sys.argv[2:] or ["script", "dynamo"]
    for exporter in exporters:
        for name, make in NETS.items():
            torch.manual_seed(7)
            try:
                export(make().eval(), exporter, folder / f"{exporter}-{name}.onnx")
            except Exception as error:
                print(f"{exporter}-{name}: {type(error).__name__}: {str(error).strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
