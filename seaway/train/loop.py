"""The training loop: AdamW, one warm-up and one cosine, augmentation on the fly, the best epoch kept.

Where there is a GPU the whole dataset lies on it, as bytes; batches are made there, nothing waits for the disk, and
what the steps lost is read from it only now and then, so that it never waits for the next one.

Chance is a function of (seed, step) and of (seed, epoch), never of what was drawn before: a resumed run draws what an
uninterrupted one would have drawn, and no generator's state has to be kept. Of several processes (parallel.py) each
does its part of every batch, with the same draws; process 0 validates and saves.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seaway.data.data import Dataset
from seaway.errors import ModelError
from seaway.train import parallel, sampling
from seaway.train.augment import Hand, drawn
from seaway.train.evaluate import Normalisation, measure, predict, to_batch
from seaway.train.settings import Settings
from seaway.train.state import Keeper

MOST_VALIDATION = 10_000  # more pictures cost time after every epoch and say no more
LOOKS = 25  # at the loss, on a GPU: once in so many steps
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
        self.device = torch.device(settings.device)
        # Channels last is what the CPU's convolution kernels like: a quarter less time at batch 256.
        self.net: nn.Module = net.to(self.device).to(memory_format=torch.channels_last)
        self.wrapped: Callable[..., Tensor] = parallel.wrap(self.net)
        if settings.compile:
            self.wrapped = torch.compile(self.wrapped)
        self.averaged = copy.deepcopy(self.net) if settings.ema else self.net
        self.dataset, self.normalise = dataset, normalise
        self.rows, self.held = split(len(dataset.train_labels), settings.validation, settings.seed)
        self.labels = dataset.train_labels[self.rows]
        size = sampling.size(self.labels, settings.sampling)
        self.settings = settings.resolved(size / len(self.rows))
        self.optimizer = _optimizer(self.net, settings)
        on_gpu = self.device.type == "cuda"
        self.images = _bytes(dataset.train_images).to(self.device) if on_gpu else None
        self.classes = torch.from_numpy(dataset.train_labels.astype(np.int64)).to(self.device)
        self.looks = LOOKS if on_gpu else 1
        weights = sampling.weights(self.labels, len(dataset.labels), settings.sampling)
        self.weights = None if weights is None else torch.from_numpy(weights).to(self.device)
        self.steps_an_epoch = max(1, size // settings.batch_size)
        self.steps = self.settings.epochs * self.steps_an_epoch
        self.step = 0
        self.loss_sum = 0.0
        self.unread: list[Tensor] = []  # losses of the last steps, on the device
        self.history: list[Epoch] = []
        self.best: Weights = {}
        self.best_figure = -1.0

    def run(self, keeper: Keeper, after_step: Callable[[float], None], after_epoch: Callable[[Epoch], None]) -> None:
        """Trains from where the run stands to its end. Raises ModelError where the loss is no number any more."""
        while self.step < self.steps and not self.patience_ended:
            self.net.train()
            for rows, copied in self._batches():
                self._learn(rows, copied)
                if self.step % self.looks:
                    continue
                self._read(keeper, after_step)
                if keeper.due and self.step % self.steps_an_epoch:  # an epoch's last step is saved with its end
                    self._save(keeper)
            self._read(keeper, after_step)
            after_epoch(self._close_epoch())
            self._save(keeper)

    @property
    def patience_ended(self) -> bool:
        """Whether as many epochs as `patience` were no better than one before them."""
        figures = [row.get("validation_figure", 0.0) for row in self.history]
        since = len(figures) - 1 - figures.index(max(figures)) if figures else 0
        return 0 < self.settings.patience <= since

    def state(self) -> dict[str, Any]:
        """All that a later `resume` needs, as tensors and plain values."""
        return {
            "step": self.step,
            "loss_sum": self.loss_sum,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "best_figure": self.best_figure,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self.step, self.loss_sum = state["step"], state["loss_sum"]
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best, self.best_figure = state["history"], state["best"], state["best_figure"]

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """int64 [n] and bool [n], where the pictures lie: the rows of each batch that this epoch still has, and which
        are to be copies."""
        settings, count = self.settings, self.steps_an_epoch
        epoch, done = divmod(self.step, count)
        chance = np.random.default_rng([settings.seed, 1, epoch])
        order, copied = (
            part[: count * settings.batch_size].reshape(count, -1)
            for part in sampling.draw(self.labels, settings.sampling, chance)
        )
        by_place = np.argsort(order, axis=1, kind="stable")  # as they lie on the disk
        device = "cpu" if self.images is None else self.device
        rows = torch.from_numpy(self.rows[np.take_along_axis(order, by_place, 1)]).to(device)
        yield from zip(
            rows[done:], torch.from_numpy(np.take_along_axis(copied, by_place, 1)).to(device)[done:], strict=True
        )

    def _learn(self, rows: Tensor, copied: Tensor) -> None:
        settings = self.settings
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, 2, self.step]).generate_state(1)[0]))
        rate = learning_rate(self.step, self.steps, settings.learning_rate, settings.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        part = parallel.part(len(rows))
        images = self._drawn(rows[part], copied[part], len(rows), part.start)
        labels = self.classes[rows[part]]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.amp):
            logits = self.wrapped(self.normalise(images))
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing, reduction="none")
        if self.weights is not None:
            losses = losses * self.weights[labels]
        loss = losses.sum() / len(rows)  # what this part adds to the mean of the whole batch
        self.optimizer.zero_grad(set_to_none=True)
        (loss * parallel.world()).backward()  # type: ignore[no-untyped-call]  # gradients are averaged over processes
        self.optimizer.step()
        self._average()
        self.step += 1
        self.unread.append(loss.detach())

    def _read(self, keeper: Keeper, after_step: Callable[[float], None]) -> None:
        """Looks at the losses since it last did. Raises ModelError where one is no number."""
        if not self.unread:
            return
        losses = parallel.total(torch.stack(self.unread)).tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses)):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", step, keeper)
            self.loss_sum += loss
            after_step(loss)
        self.unread = []

    def _drawn(self, rows: Tensor, copied: Tensor, of: int, start: int) -> Tensor:
        """float32 [n, 1, H, W] in 0..1 on the device: these pictures, each as another hand might have drawn it."""
        settings = self.settings
        if self.images is None:
            images = to_batch(self.dataset.train_images[rows.numpy()]).to(self.device)
        else:
            images = self.images[rows].unsqueeze(1).float().div_(255)
        hand = Hand(settings.affine, settings.elastic, settings.pen)
        copies = copied.to(self.device) if settings.sampling == sampling.SYNTHETIC else None
        return drawn(images, hand, copies, of, start)

    @torch.no_grad()
    def _average(self) -> None:
        """Weights and statistics as a mean that forgets: over the first steps all count alike."""
        if self.averaged is self.net:
            return
        keep = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        pairs = list(zip(self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True))
        means, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(means, values, 1 - keep)  # all in one go
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)

    def _close_epoch(self) -> Epoch:
        row: Epoch = {"epoch": len(self.history) + 1, "loss": self.loss_sum / self.steps_an_epoch}
        figure = self.best_figure
        if len(self.held):
            row |= parallel.share(self._validate() if parallel.rank() == 0 else None)
            figure = row["validation_figure"]
        if figure >= self.best_figure:  # on equal terms the later epoch, and always without validation pictures
            self.best_figure = figure
            self.best = {name: value.detach().cpu().clone() for name, value in self.averaged.state_dict().items()}
        self.history.append(row)
        self.loss_sum = 0.0
        return row

    def _validate(self) -> Epoch:
        """The best epoch is that of the highest figure: accuracy, or where classes are evened out the balanced one."""
        logits = predict(self.averaged, self.dataset.train_images[self.held], self.normalise, self.device)
        result = measure(logits, self.dataset.train_labels[self.held])
        even = self.settings.sampling != sampling.NONE
        return {
            "validation_loss": result.loss,
            "validation_accuracy": result.accuracy,
            "validation_balanced_accuracy": result.balanced_accuracy,
            "validation_figure": result.balanced_accuracy if even else result.accuracy,
        }

    def _save(self, keeper: Keeper) -> None:
        if not all(bool(value.isfinite().all()) for value in self.net.state_dict().values()):
            raise self._diverged("weights became infinite or no numbers", self.step, keeper)
        keeper.save(self.state())

    def _diverged(self, what: str, step: int, keeper: Keeper) -> ModelError:
        kept = f"; the last good state stays in {keeper.folder}" if keeper.folder else ""
        epoch = step // self.steps_an_epoch + 1
        return ModelError(
            f"{what} at step {step} (epoch {epoch} of {self.settings.epochs}) with --learning-rate "
            f"{self.settings.learning_rate:g}: try {self.settings.learning_rate / 3:.2g}{kept}"
        )


def _bytes(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W], read from the disk whole."""
    return torch.from_numpy(np.array(images))


def _optimizer(net: nn.Module, settings: Settings) -> torch.optim.AdamW:
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]  # biases and BatchNorm's scales are not to shrink
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
