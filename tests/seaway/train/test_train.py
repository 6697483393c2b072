import dataclasses
import json

import numpy as np
import pytest
import torch

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.errors import DataError, InvalidInput, MetadataError, ModelError
from seaway.nets.build import NETS, build
from seaway.train.settings import EPOCHS
from seaway.train.train import Settings, train

QUICK = Settings(epochs=4, batch_size=16, affine=0.3, elastic=0, validation=0.1, threads=1)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    metadata = train(dataset, folder / "checkpoint", QUICK, work=folder / "work", report=folder / "report.html")
    return folder, metadata


def test_the_checkpoint_matches_its_metadata(trained, dataset):
    folder, metadata = trained
    assert artifact_metadata.check(folder / "checkpoint", "checkpoint") == metadata
    assert metadata.name == "bars"
    assert metadata.labels == ("A", "B", "C")
    assert metadata.parents["dataset"] == artifact_metadata.read(dataset)
    assert metadata.settings["net"] == "cnn"
    assert metadata.settings["image_size"] == [12, 12]
    assert metadata.settings["classes"] == 3
    assert metadata.settings["epochs"] == 4


def test_the_metrics_are_those_of_the_weights_on_the_test_set(trained, dataset):
    folder, metadata = trained
    net = build(metadata.settings["net"], tuple(metadata.settings["image_size"]), metadata.settings["classes"])
    net.load_state_dict(torch.load(folder / "checkpoint" / "weights.pt", weights_only=True))
    images = torch.from_numpy(np.load(dataset / "test_images.npy")).unsqueeze(1) / 255
    labels = np.load(dataset / "test_labels.npy")
    with torch.inference_mode():
        predicted = net.eval()((images - metadata.settings["mean"]) / metadata.settings["std"]).argmax(dim=1).numpy()
    assert metadata.metrics["accuracy"] == (predicted == labels).mean()
    assert metadata.metrics["accuracy"] > 0.9  # bars are easy; chance is 0.33
    assert metadata.metrics["balanced_accuracy"] == np.mean([(predicted[labels == c] == c).mean() for c in range(3)])


def test_mean_and_deviation_are_the_training_set_s(trained, dataset):
    values = np.load(dataset / "train_images.npy") / 255
    assert trained[1].settings["mean"] == pytest.approx(values.mean(), abs=1e-6)
    assert trained[1].settings["std"] == pytest.approx(values.std(), abs=1e-6)


def test_the_history_has_a_row_an_epoch(trained):
    history = json.loads((trained[0] / "checkpoint" / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 <= row["validation_accuracy"] <= 1 for row in history)


def test_the_report_shows_the_results_on_the_test_set(trained):
    html = (trained[0] / "report.html").read_text()
    for expected in ("Training of bars", "balanced accuracy", "Calibration", "learning rate", "<svg"):
        assert expected in html


def test_accuracy_with_case_folded_is_among_the_metrics_if_bymerge_merges_classes(trained, make, tmp_path):
    assert "bymerge_accuracy" not in trained[1].metrics
    folder = make(tmp_path / "dataset", classes=2)
    artifact_metadata.write(folder, dataclasses.replace(artifact_metadata.read(folder), labels=("C", "c")))
    settings = Settings(net="mlp", epochs=1, learning_rate=1e-6, validation=0, threads=1)  # learns nothing
    metrics = train(folder, tmp_path / "checkpoint", settings).metrics
    assert metrics["bymerge_accuracy"] == 1 > metrics["accuracy"]


def test_a_finished_run_leaves_no_state(trained):
    assert list((trained[0] / "work").iterdir()) == []


def test_the_same_seed_gives_the_same_checkpoint_and_another_another(trained, dataset, tmp_path):
    assert train(dataset, tmp_path / "same", QUICK).sha256 == trained[1].sha256
    other = Settings(epochs=4, batch_size=16, affine=0.3, elastic=0, validation=0.1, threads=1, seed=1)
    assert train(dataset, tmp_path / "other", other).sha256 != trained[1].sha256


def test_the_mlp_learns_without_validation_images_and_replaces_an_old_checkpoint(dataset, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "old").touch()
    artifact_metadata.write(tmp_path / "checkpoint", ArtifactMetadata(kind="checkpoint", name="old"))
    settings = Settings(
        net="mlp", epochs=6, batch_size=16, validation=0, affine=0, elastic=0, learning_rate=1e-3, threads=1
    )
    assert train(dataset, tmp_path / "checkpoint", settings).metrics["accuracy"] > 0.9
    assert sorted(p.name for p in (tmp_path / "checkpoint").iterdir()) == ["card.json", "history.json", "weights.pt"]


def test_a_divergent_loss_stops_with_a_suggestion_and_keeps_the_last_good_state(dataset, tmp_path):
    wild = Settings(net="mlp", epochs=50, batch_size=16, learning_rate=1000.0, warm_up=0.0, threads=1, save_seconds=0)
    with pytest.raises(
        ModelError, match=r"at step \d+ \(epoch \d+ of 50\).*--learning-rate 1000: try 3.3e\+02"
    ) as caught:
        train(dataset, tmp_path / "checkpoint", wild, work=tmp_path / "work")
    [folder] = (tmp_path / "work").iterdir()
    assert str(folder) in str(caught.value)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["net"].values())
    assert not (tmp_path / "checkpoint").exists()


class InfiniteAtLast(torch.nn.Linear):
    """Trains normally, but its logits are infinite in evaluation."""

    def forward(self, x):
        logits = super().forward(x.flatten(1))
        return logits if self.training else logits * torch.inf


def test_an_infinite_loss_on_the_test_set_is_reported(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(NETS, "mlp", lambda size, classes: InfiniteAtLast(size[0] * size[1], classes))
    with pytest.raises(ModelError, match=r"loss on the test set is (nan|inf): lower --learning-rate"):
        train(dataset, tmp_path / "checkpoint", Settings(net="mlp", epochs=1, validation=0, threads=1))
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(epochs=-1), "--epochs -1: must be between 0 and 100000"),
        (Settings(batch_size=1), "--batch-size 1: must be between"),
        (Settings(learning_rate=float("nan")), "--learning-rate nan: must be between"),
        (Settings(validation=0.9), "--validation 0.9: must be between"),
        (Settings(device="cuda:99"), "--device cuda:99 cannot be used .*try --device cpu"),
        (Settings(device="toaster"), "--device toaster cannot be used"),
        *(
            []
            if torch.cuda.is_available()
            else [(Settings(device="cuda"), "--device cuda cannot be used .*--device cpu")]
        ),
    ],
)
def test_bad_settings_name_the_option(dataset, tmp_path, settings, message):
    with pytest.raises(InvalidInput, match=message):
        train(dataset, tmp_path / "checkpoint", settings)


@pytest.mark.parametrize("net", sorted(EPOCHS))
def test_the_default_number_of_epochs_is_the_net_s_own(net):
    assert Settings(net=net).resolved().epochs == EPOCHS[net] > 0
    assert Settings(net=net, epochs=3).resolved().epochs == 3


def test_an_unknown_net_is_refused(dataset, tmp_path):
    with pytest.raises(ModelError, match="'gpt' is not a network"):
        train(dataset, tmp_path / "checkpoint", Settings(net="gpt"))


def test_a_single_class_is_refused(make, tmp_path):
    folder = make(tmp_path / "dataset", classes=1)
    with pytest.raises(DataError, match=f"{folder}: all training images are of one class"):
        train(folder, tmp_path / "checkpoint", QUICK)


def test_blank_images_are_refused(make, tmp_path):
    folder = make(tmp_path / "dataset")
    np.save(folder / "train_images.npy", np.zeros((120, 12, 12), np.uint8))
    artifact_metadata.write(folder, artifact_metadata.read(folder))
    with pytest.raises(DataError, match="all pixels of the training images are equal"):
        train(folder, tmp_path / "checkpoint", QUICK)


def test_a_broken_dataset_is_refused(make, tmp_path):
    folder = make(tmp_path / "dataset")
    labels = np.load(folder / "train_labels.npy")
    labels[0] = 2
    np.save(folder / "train_labels.npy", labels)
    with pytest.raises(MetadataError, match="changed after its metadata was written"):
        train(folder, tmp_path / "checkpoint", QUICK)
    (folder / "card.json").unlink()
    with pytest.raises(DataError, match="is not an artifact of Seaway, or is incomplete"):
        train(folder, tmp_path / "checkpoint", QUICK)


def test_fewer_images_than_a_batch_are_enough(make, tmp_path):
    folder = make(tmp_path / "dataset", classes=2, count=2)
    metadata = train(folder, tmp_path / "checkpoint", Settings(epochs=1, threads=1))
    assert 0 <= metadata.metrics["accuracy"] <= 1
