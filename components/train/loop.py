"""The training loop: AdamW, one warm-up and one cosine, augmentation on the fly, the best epoch kept.

Chance is a function of (seed, step) and of (seed, epoch), never of what was drawn before: a resumed run draws what an
uninterrupted one would have drawn, and no generator's state has to be kept. Of several processes (parallel.py) each
does its part of every batch, with the same draws; process 0 validates and saves.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.train import parallel
from components.train.augment import distort
from components.train.evaluate import Normalisation, measure, predict, to_batch
from components.train.settings import Settings
from components.train.state import Keeper
from seaway.data import Dataset
from seaway.errors import ModelError

MOST_VALIDATION = 10_000  # more pictures cost time after every epoch and say no more
Weights = dict[str, Tensor]
Epoch = dict[str, float]


def learning_rate(step: int, steps: int, peak: float, warm_up: float) -> float:
    """Rises linearly over the first `warm_up` share of all steps, then falls along half a cosine to almost nothing."""
    rising = round(warm_up * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (0.001 + 0.999 * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2)


def split(count: int, validation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to validate on, drawn from the training set by the seed alone."""
    held = min(int(count * validation), MOST_VALIDATION, count - 2)
    rows = np.random.default_rng([seed, 0]).permutation(count)
    return np.sort(rows[held:]), np.sort(rows[:held])


class Loop:
    """One run. `history` has a row for each finished epoch; `best` the weights of the best one by validation."""

    def __init__(self, net: nn.Module, dataset: Dataset, normalise: Normalisation, settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device(settings.device)
        # Channels last is what the CPU's convolution kernels like: a quarter less time at batch 256.
        self.net: nn.Module = net.to(self.device).to(memory_format=torch.channels_last)
        self.wrapped = parallel.wrap(self.net)
        self.optimizer = _optimizer(self.net, settings)
        self.dataset, self.normalise = dataset, normalise
        self.rows, self.held = split(len(dataset.train_labels), settings.validation, settings.seed)
        self.steps_an_epoch = max(1, len(self.rows) // settings.batch_size)
        self.steps = settings.epochs * self.steps_an_epoch
        self.step = 0
        self.loss_sum = 0.0
        self.history: list[Epoch] = []
        self.best: Weights = {}
        self.best_accuracy = -1.0

    def run(self, keeper: Keeper, after_step: Callable[[float], None], after_epoch: Callable[[Epoch], None]) -> None:
        """Trains from where the run stands to its end. Raises ModelError where the loss is no number any more."""
        while self.step < self.steps:
            epoch = self.step // self.steps_an_epoch
            order = np.random.default_rng([self.settings.seed, 1, epoch]).permutation(self.rows)
            self.net.train()
            for index in range(self.step % self.steps_an_epoch, self.steps_an_epoch):
                size = self.settings.batch_size
                loss = self._learn(np.sort(order[index * size : (index + 1) * size]), keeper)
                after_step(loss)
                if keeper.due and self.step % self.steps_an_epoch:  # the last step's state is its closed epoch's
                    self._save(keeper)
            after_epoch(self._close_epoch())
            self._save(keeper)

    def state(self) -> dict[str, Any]:
        """All that a later `resume` needs, as tensors and plain values."""
        return {
            "step": self.step,
            "loss_sum": self.loss_sum,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "best_accuracy": self.best_accuracy,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self.step, self.loss_sum = state["step"], state["loss_sum"]
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best, self.best_accuracy = state["history"], state["best"], state["best_accuracy"]

    def _learn(self, rows: np.ndarray, keeper: Keeper) -> float:
        settings = self.settings
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, 2, self.step]).generate_state(1)[0]))
        rate = learning_rate(self.step, self.steps, settings.learning_rate, settings.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        part = parallel.part(len(rows))
        mine = rows[part]
        images = to_batch(self.dataset.train_images[mine]).to(self.device)
        labels = torch.from_numpy(self.dataset.train_labels[mine].astype(np.int64)).to(self.device)
        images = distort(images, settings.affine, settings.elastic, len(rows), part.start)
        loss = F.cross_entropy(self.wrapped(self.normalise(images)), labels, label_smoothing=settings.label_smoothing)
        loss = loss * (len(mine) / len(rows))  # what this part adds to the mean of the whole batch
        value = parallel.total(loss)
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value}", keeper)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * parallel.world()).backward()  # type: ignore[no-untyped-call]  # gradients are averaged over processes
        self.optimizer.step()
        self.step += 1
        self.loss_sum += value
        return value

    def _close_epoch(self) -> Epoch:
        row: Epoch = {"epoch": len(self.history) + 1, "loss": self.loss_sum / self.steps_an_epoch}
        accuracy = self.best_accuracy
        if len(self.held) and parallel.rank() == 0:
            logits = predict(self.net, self.dataset.train_images[self.held], self.normalise, self.device)
            result = measure(logits, self.dataset.train_labels[self.held])
            accuracy = result.accuracy
            row |= {"validation_loss": result.loss, "validation_accuracy": accuracy}
            row["validation_balanced_accuracy"] = result.balanced_accuracy
        if accuracy >= self.best_accuracy:  # on equal terms the later epoch, and always without validation pictures
            self.best_accuracy = accuracy
            self.best = {name: value.detach().cpu().clone() for name, value in self.net.state_dict().items()}
        self.history.append(row)
        self.loss_sum = 0.0
        return row

    def _save(self, keeper: Keeper) -> None:
        if not all(bool(value.isfinite().all()) for value in self.net.state_dict().values()):
            raise self._diverged("weights became infinite or no numbers", keeper)
        keeper.save(self.state())

    def _diverged(self, what: str, keeper: Keeper) -> ModelError:
        kept = f"; the last good state stays in {keeper.folder}" if keeper.folder else ""
        epoch = self.step // self.steps_an_epoch + 1
        return ModelError(
            f"{what} at step {self.step} (epoch {epoch} of {self.settings.epochs}) with --learning-rate "
            f"{self.settings.learning_rate:g}: try {self.settings.learning_rate / 3:.2g}{kept}"
        )


def _optimizer(net: nn.Module, settings: Settings) -> torch.optim.AdamW:
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]  # biases and BatchNorm's scales are not to shrink
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)
