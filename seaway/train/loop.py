"""The training loop: AdamW, one warm-up and one cosine, augmentation on the fly, the weights of the best epoch kept.

On a GPU the whole dataset lies in its memory, as bytes; batches are made there, nothing waits for the disk, and losses
are fetched only every few steps, so that the GPU never waits for the next step.

All random numbers depend on (seed, step) or (seed, epoch), never on what was drawn before: a resumed run draws what an
uninterrupted one would have drawn, and no generator's state has to be saved. Each of several processes (parallel.py)
computes its part of every batch with the same draws; process 0 validates and saves.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seaway.data.datasets import Dataset
from seaway.errors import ModelError
from seaway.train import parallel, sampling
from seaway.train.augment import AugmentParams, augment
from seaway.train.checkpoints import CheckpointManager
from seaway.train.evaluate import Normalisation, measure, predict, to_batch
from seaway.train.settings import Settings

MAX_VALIDATION = 10_000  # images; more would cost time after every epoch and tell no more
LOSS_SYNC_STEPS = 25  # a GPU's losses are fetched once in so many steps
Weights = dict[str, Tensor]
Epoch = dict[str, float]


def learning_rate(step: int, steps: int, peak: float, warm_up: float) -> float:
    """Rises linearly over the first `warm_up` share of all steps, then falls along half a cosine to almost nothing."""
    warm_up_steps = round(warm_up * steps)
    if step < warm_up_steps:
        return peak * (step + 1) / warm_up_steps
    return peak * (0.001 + 0.999 * (1 + math.cos(math.pi * (step - warm_up_steps) / (steps - warm_up_steps))) / 2)


def split(count: int, validation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training set to train on and to validate on; they depend on the seed alone."""
    validation_size = min(int(count * validation), MAX_VALIDATION, count - 2)
    rows = np.random.default_rng([seed, 0]).permutation(count)
    return np.sort(rows[validation_size:]), np.sort(rows[:validation_size])


class Loop:
    """One run. `history` has a row for each finished epoch; `best` has the weights of the best one by validation."""

    def __init__(self, net: nn.Module, dataset: Dataset, normalise: Normalisation, settings: Settings) -> None:
        self.device = torch.device(settings.device)
        # Channels last suits the CPU's convolution kernels: a quarter less time at batch 256.
        self.net: nn.Module = net.to(self.device).to(memory_format=torch.channels_last)
        self.wrapped: Callable[..., Tensor] = parallel.wrap(self.net)
        if settings.compile:
            self.wrapped = torch.compile(self.wrapped)
        self.averaged = copy.deepcopy(self.net) if settings.ema else self.net
        self.dataset, self.normalise = dataset, normalise
        self.train_rows, self.validation_rows = split(len(dataset.train_labels), settings.validation, settings.seed)
        self.labels = dataset.train_labels[self.train_rows]
        size = sampling.size(self.labels, settings.sampling)
        self.settings = settings.resolved(size / len(self.train_rows))
        self.optimizer = _optimizer(self.net, settings)
        on_gpu = self.device.type == "cuda"
        self.images = _bytes(dataset.train_images).to(self.device) if on_gpu else None
        self.targets = torch.from_numpy(dataset.train_labels.astype(np.int64)).to(self.device)
        self.loss_sync_steps = LOSS_SYNC_STEPS if on_gpu else 1
        weights = sampling.weights(self.labels, len(dataset.labels), settings.sampling)
        self.class_weights = None if weights is None else torch.from_numpy(weights).to(self.device)
        self.steps_per_epoch = max(1, size // settings.batch_size)
        self.steps = self.settings.epochs * self.steps_per_epoch
        self.step = 0
        self.loss_sum = 0.0
        self.pending_losses: list[Tensor] = []  # of the last steps, on the device
        self.history: list[Epoch] = []
        self.best: Weights = {}
        self.best_score = -1.0

    def run(
        self, manager: CheckpointManager, after_step: Callable[[float], None], after_epoch: Callable[[Epoch], None]
    ) -> None:
        """Trains to the end of the run. Raises ModelError if the loss becomes infinite or NaN."""
        while self.step < self.steps and not self.patience_ended:
            self.net.train()
            for rows, repeats in self._batches():
                self._train_step(rows, repeats)
                if self.step % self.loss_sync_steps:
                    continue
                self._sync_losses(manager, after_step)
                if (
                    manager.due and self.step % self.steps_per_epoch
                ):  # the last step of an epoch is saved when the epoch is closed
                    self._save(manager)
            self._sync_losses(manager, after_step)
            after_epoch(self._close_epoch())
            self._save(manager)

    @property
    def patience_ended(self) -> bool:
        """Whether the last `patience` epochs were no better than an earlier one."""
        scores = [row.get("validation_figure", 0.0) for row in self.history]
        since = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return 0 < self.settings.patience <= since

    def state(self) -> dict[str, Any]:
        """The state that `resume` needs, as tensors and plain values."""
        return {
            "step": self.step,
            "loss_sum": self.loss_sum,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "best_figure": self.best_score,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self.step, self.loss_sum = state["step"], state["loss_sum"]
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best, self.best_score = state["history"], state["best"], state["best_figure"]

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches left in this epoch, on the device of the images: the rows, int64 [n], and which of them repeat
        another row, bool [n]."""
        settings, count = self.settings, self.steps_per_epoch
        epoch, done = divmod(self.step, count)
        rng = np.random.default_rng([settings.seed, 1, epoch])
        order, repeats = (
            part[: count * settings.batch_size].reshape(count, -1)
            for part in sampling.draw(self.labels, settings.sampling, rng)
        )
        by_row = np.argsort(order, axis=1, kind="stable")  # in the order on the disk
        device = "cpu" if self.images is None else self.device
        rows = torch.from_numpy(self.train_rows[np.take_along_axis(order, by_row, 1)]).to(device)
        yield from zip(
            rows[done:], torch.from_numpy(np.take_along_axis(repeats, by_row, 1)).to(device)[done:], strict=True
        )

    def _train_step(self, rows: Tensor, repeats: Tensor) -> None:
        settings = self.settings
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, 2, self.step]).generate_state(1)[0]))
        rate = learning_rate(self.step, self.steps, settings.learning_rate, settings.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        part = parallel.batch_slice(len(rows))
        images = self._augmented(rows[part], repeats[part], len(rows), part.start)
        labels = self.targets[rows[part]]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.amp):
            logits = self.wrapped(self.normalise(images))
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing, reduction="none")
        if self.class_weights is not None:
            losses = losses * self.class_weights[labels]
        loss = losses.sum() / len(rows)  # this part's share of the mean over the whole batch
        self.optimizer.zero_grad(set_to_none=True)
        (loss * parallel.world_size()).backward()  # type: ignore[no-untyped-call]  # gradients are averaged over processes
        self.optimizer.step()
        self._average()
        self.step += 1
        self.pending_losses.append(loss.detach())

    def _sync_losses(self, manager: CheckpointManager, after_step: Callable[[float], None]) -> None:
        """Fetches the pending losses. Raises ModelError if one is infinite or NaN."""
        if not self.pending_losses:
            return
        losses = parallel.all_reduce(torch.stack(self.pending_losses)).tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses)):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", step, manager)
            self.loss_sum += loss
            after_step(loss)
        self.pending_losses = []

    def _augmented(self, rows: Tensor, repeats: Tensor, batch_size: int, start: int) -> Tensor:
        """float32 [n, 1, H, W] in 0..1 on the device: these images, augmented."""
        settings = self.settings
        if self.images is None:
            images = to_batch(self.dataset.train_images[rows.numpy()]).to(self.device)
        else:
            images = self.images[rows].unsqueeze(1).float().div_(255)
        params = AugmentParams(settings.affine, settings.elastic, settings.stroke_jitter)
        strongly = repeats.to(self.device) if settings.sampling == sampling.AUGMENT else None
        return augment(images, params, strongly, batch_size, start)

    @torch.no_grad()
    def _average(self) -> None:
        """Updates the moving average of weights and statistics; over the first steps all steps weigh the same."""
        if self.averaged is self.net:
            return
        keep = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        pairs = list(zip(self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True))
        means, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(means, values, 1 - keep)  # all in one call
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)

    def _close_epoch(self) -> Epoch:
        row: Epoch = {"epoch": len(self.history) + 1, "loss": self.loss_sum / self.steps_per_epoch}
        score = self.best_score
        if len(self.validation_rows):
            row |= parallel.broadcast(self._validate() if parallel.rank() == 0 else None)
            score = row["validation_figure"]
        if score >= self.best_score:  # the later epoch if scores are equal, and always without validation images
            self.best_score = score
            self.best = {name: value.detach().cpu().clone() for name, value in self.averaged.state_dict().items()}
        self.history.append(row)
        self.loss_sum = 0.0
        return row

    def _validate(self) -> Epoch:
        """Validation metrics. The highest "validation_figure" decides the best epoch: accuracy, or balanced accuracy if
        `sampling` evens out the classes."""
        logits = predict(self.averaged, self.dataset.train_images[self.validation_rows], self.normalise, self.device)
        result = measure(logits, self.dataset.train_labels[self.validation_rows])
        evened_out = self.settings.sampling != sampling.NONE
        return {
            "validation_loss": result.loss,
            "validation_accuracy": result.accuracy,
            "validation_balanced_accuracy": result.balanced_accuracy,
            "validation_figure": result.balanced_accuracy if evened_out else result.accuracy,
        }

    def _save(self, manager: CheckpointManager) -> None:
        if not all(bool(value.isfinite().all()) for value in self.net.state_dict().values()):
            raise self._diverged("weights became infinite or NaN", self.step, manager)
        manager.save(self.state())

    def _diverged(self, what: str, step: int, manager: CheckpointManager) -> ModelError:
        kept = f"; the last good state stays in {manager.folder}" if manager.folder else ""
        epoch = step // self.steps_per_epoch + 1
        return ModelError(
            f"{what} at step {step} (epoch {epoch} of {self.settings.epochs}) with --learning-rate "
            f"{self.settings.learning_rate:g}: try {self.settings.learning_rate / 3:.2g}{kept}"
        )


def _bytes(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W] as a tensor, read from the disk as a whole."""
    return torch.from_numpy(np.array(images))


def _optimizer(net: nn.Module, settings: Settings) -> torch.optim.AdamW:
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]  # biases and BatchNorm's scales must not decay
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
