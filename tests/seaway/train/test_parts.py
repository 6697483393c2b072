import math
import os

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seaway.data import idx
from seaway.platform import cgroup
from seaway.train import augment
from seaway.train.augment import distort
from seaway.train.checkpoints import CheckpointManager
from seaway.train.evaluate import bymerge, measure
from seaway.train.loop import learning_rate, split
from seaway.train.settings import Settings
from seaway.train.train import configure


def test_the_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing():
    rates = [learning_rate(step, 100, 0.01, 0.2) for step in range(100)]
    assert rates[0] == pytest.approx(0.0005)
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.0001


def test_the_split_depends_on_the_seed_and_loses_no_image():
    rows, validation = split(1000, 0.1, seed=3)
    assert len(validation) == 100
    assert sorted([*rows, *validation]) == list(range(1000))
    assert np.array_equal(split(1000, 0.1, seed=3)[1], validation)
    assert not np.array_equal(split(1000, 0.1, seed=4)[1], validation)


def test_the_split_holds_back_at_most_ten_thousand():
    assert len(split(800_000, 0.1, seed=0)[1]) == 10_000


def dot(at=(14, 14)):
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, at[0] - 1 : at[0] + 1, at[1] - 1 : at[1] + 1] = 1
    return image


def test_no_augmentation_changes_nothing():
    assert torch.equal(distort(dot(), 0, 0), dot())


def test_augmentation_moves_ink_within_its_reach_and_makes_none():
    torch.manual_seed(0)
    images = distort(dot().expand(500, 1, 28, 28), 1, 0)
    assert images.shape == (500, 1, 28, 28)
    assert images.min() >= 0
    assert images.max() <= 1
    rows = (images.sum(dim=(1, 3)) * torch.arange(28)).sum(dim=1) / images.sum(dim=(1, 2, 3)) - 13.5
    assert 1 < rows.abs().max() < 3.2  # 2.5 pixels over a scale of at least 0.88, and a little of the turn
    assert abs(float(rows.mean())) < 0.3


def test_strokes_grow_and_shrink_by_the_pixels_around():
    images = torch.rand(8, 1, 28, 23)
    assert torch.equal(augment._extreme(images, torch.maximum), F.max_pool2d(images, 3, 1, 1))
    assert torch.equal(augment._extreme(images, torch.minimum), -F.max_pool2d(-images, 3, 1, 1))


def test_a_bend_runs_smoothly_through_its_knots():
    knots = torch.randn(3, 2, augment.KNOTS, augment.KNOTS)
    down, across = (augment._knot_weights(size, knots.device) for size in (29, 23))
    bends = down @ knots @ across.T
    assert torch.allclose(bends[:, :, ::7, 0], knots[..., 0], atol=1e-6)
    assert torch.allclose(bends, F.interpolate(knots, size=(29, 23), mode="bicubic", align_corners=True), atol=1e-5)


def test_bends_move_ink_a_little_and_bend_nothing_away():
    torch.manual_seed(0)
    images = distort(dot().expand(500, 1, 28, 28), 0, 1)
    rows = (images.sum(dim=(1, 3)) * torch.arange(28)).sum(dim=1) / images.sum(dim=(1, 2, 3)) - 13.5
    assert 0.3 < float(rows.std()) < 1.2  # 0.8 pixels at the knots
    assert abs(float(rows.mean())) < 0.2
    assert images.amax(dim=(1, 2, 3)).min() > 0.2


def test_each_image_is_distorted_independently():
    torch.manual_seed(0)
    images = distort(dot((8, 20)).expand(8, 1, 28, 28), 1, 0)
    assert len({tuple(image.flatten().tolist()) for image in images}) == 8


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur():
    predicted = [0, 0, 0, 1, 0]
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()
    result = measure(logits, np.array([0, 0, 0, 1, 1], np.uint8))
    assert result.accuracy == pytest.approx(0.8)
    assert result.balanced_accuracy == pytest.approx((1 + 0.5) / 2)
    assert result.confusion.tolist() == [[3, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert result.recall[:2].tolist() == [1, 0.5]
    assert math.isnan(result.recall[2])
    right, wrong = -math.log(math.e / (math.e + 2)), -math.log(1 / (math.e + 2))
    assert result.loss == pytest.approx((4 * right + wrong) / 5, abs=1e-6)


def logits_of(*rows):
    """Logits whose softmax are these rows."""
    return torch.tensor(rows, dtype=torch.float64).log().float()


def test_confidence_precision_and_the_five_most_probable():
    result = measure(logits_of([0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]), np.array([0, 1, 1], np.uint8))
    assert result.predicted.tolist() == [0, 0, 1]
    assert result.confidence.tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert result.precision[:2].tolist() == [0.5, 1]
    assert math.isnan(result.precision[2])  # it is never predicted
    assert result.top5 == 1
    seven = torch.arange(7.0).repeat(3, 1)  # class 6 is the most probable, class 0 the least
    assert measure(seven, np.array([6, 2, 1], np.uint8)).top5 == pytest.approx(2 / 3)


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy():
    logits = logits_of([0.9, 0.1], [0.9, 0.1], [0.38, 0.62], [0.38, 0.62], [1, 0])
    reliability = measure(logits, np.array([0, 1, 1, 1, 0], np.uint8)).reliability
    assert reliability.counts.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 1]
    assert reliability.accuracy[[9, 13, 14]].tolist() == [1, 0.5, 1]
    assert reliability.confidence[[9, 13, 14]].tolist() == pytest.approx([0.62, 0.9, 1])
    assert math.isnan(reliability.accuracy[0])
    assert reliability.error == pytest.approx((2 * 0.38 + 2 * 0.4) / 5)


def test_case_is_folded_as_bymerge_folds_it():
    names = idx.standard_labels("byclass")[1]
    changed = {name for name, folded in zip(names, bymerge(names), strict=True) if name != folded}
    assert changed == set("cijklmopsuvwxyz")
    assert list(dict.fromkeys(bymerge(names))) == list(idx.standard_labels("bymerge")[1])


def test_accuracy_with_case_folded():
    labels = ("A", "C", "a", "c")
    result = measure(torch.eye(4)[[2, 3, 1, 1, 0]], np.array([0, 1, 1, 3, 0], np.uint8))
    assert result.accuracy == pytest.approx(2 / 5)
    assert result.bymerge_accuracy(labels) == pytest.approx(4 / 5)  # a for A stays wrong
    assert result.bymerge_accuracy(("A", "B", "a", "c")) is None


@pytest.mark.parametrize(
    ("requested", "quota", "threads"),
    [
        (0, "350000", 3),
        (0, "150000", 1),
        (0, "10000", 1),
        (0, "6400000", 8),
        (0, "-1", 8),
        (0, None, 8),
        (5, "200000", 5),
    ],
)
def test_a_container_s_cpu_limit_bounds_the_threads_as_the_server_s(tmp_path, monkeypatch, requested, quota, threads):
    """On a node with cgroups of version 1, whose limit was ignored."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("11:memory:/kubepods/pod1\n4:cpu,cpuacct:/kubepods/pod1\n0::/\n")
    folder = tmp_path / "sys/fs/cgroup/cpu,cpuacct/kubepods/pod1"
    folder.mkdir(parents=True)
    if quota is not None:
        (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    configure(Settings(threads=requested))
    assert set_to == [threads]
    assert requested or set_to == [cgroup.cores()]


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["umask 0", "umask 077"])
def test_only_its_owner_may_change_the_saved_state(tmp_path, umask):
    before = os.umask(umask)
    try:
        CheckpointManager(tmp_path / "work", "key", 1).save({"epoch": 1})
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"work": 0o755, "work/train-key": 0o755, "work/train-key/state.pt": 0o644}
