"""Deploy, promote and rollback, each by stage and by verb, end in the same state: in a folder, and on a stand-in of a
cluster's API. What is interrupted is completed by the same command. On a real cluster, tests/e2e compares them."""

import json
import re
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from kubernetes import client
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / "tests" / folder) for folder in ("seaway/load", "fixtures")]

import toy  # noqa: E402
from deployments_api import Cluster  # noqa: E402
from responder import serving  # noqa: E402

import seaway.deploy.__main__ as deploy_main  # noqa: E402
import seaway.promote.__main__ as promote_main  # noqa: E402
from seaway import errors  # noqa: E402
from seaway.artifacts import card as cards  # noqa: E402
from seaway.artifacts import store  # noqa: E402
from seaway.artifacts.card import Card  # noqa: E402
from seaway.cli.main import app  # noqa: E402
from seaway.kube import kube, rollout  # noqa: E402
from seaway.pipeline.definitions import component  # noqa: E402
from seaway.promote.rollback import rollback  # noqa: E402

GOOD = {"requests": 1000.0, "wrong": 0.0, "failed": 0.0, "foreign": 0.0}


class World:
    """A volume with versions 1 to 3 of "toy", each with good evidence, a server that follows it, and, where it is asked
    for, a cluster. Nothing is labelled, and the cluster serves what is stable."""

    def __init__(self, folder, made, on_cluster, monkeypatch, stack):
        self.volume = folder / "models"
        shutil.copytree(made, self.volume)
        self.namespace = "seaway" if on_cluster else ""
        self.cluster = Cluster()
        host = stack.enter_context(self.cluster.serving())
        self.api = stack.enter_context(client.ApiClient(client.Configuration(host=host)))
        self.url = stack.enter_context(serving(self.volume)).url
        self.monkeypatch = monkeypatch

    def digest(self, version):
        return store.read_card(self.volume, "toy", version).sha256

    def here(self):
        """Commands now speak to this world's cluster."""
        self.monkeypatch.setattr(kube, "connect", lambda context="": self.api)

    def options(self, **more):
        given = {"volume": self.volume, "name": "toy", "namespace": self.namespace} | more
        return [word for key, value in given.items() if value for word in (f"--{key}", str(value))]

    def verb(self, verb, /, **more):
        self.here()
        done = CliRunner().invoke(app, [verb, *self.options(**more)], env={"COLUMNS": "200"})
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def main(self, module, *words, **more):
        self.here()
        self.monkeypatch.setattr(sys, "argv", ["main", *self.options(**more), *words])
        module.main()

    def deploy(self, way, version):
        if way == "verb":
            self.verb("deploy", version=version, url=self.url)
        elif way == "stage":
            self.main(deploy_main, version=version, url=self.url)
        else:
            self.here()
            component("deploy").python_func(self.url, str(self.volume), "toy", version, self.namespace)

    def promote(self, way, version):
        if way == "verb":
            self.verb("promote", version=version)
        elif way == "stage":
            self.main(promote_main, version=version)
        else:
            [evidence] = store.evidence(self.volume, "toy", self.digest(version)).iterdir()
            artifact = type("Artifact", (), {"path": str(evidence)})
            self.here()
            component("promote").python_func(str(self.volume), "toy", version, self.namespace, artifact)

    def rollback(self, way, **more):
        if way == "verb":
            return self.verb("rollback", **more)
        return self.main(promote_main, "--rollback", **more)

    def state(self):
        """All that says which version is what."""
        config = (self.volume / store.CONFIG).read_text().replace(str(self.volume), "VOLUME")
        found = {"config": config, "history": store.history(self.volume, "toy"), **store.labels(self.volume, "toy")}
        for name, one in self.cluster.deployments.items() if self.namespace else ():
            annotations = dict(one["metadata"]["annotations"])
            serves = one["spec"]["template"]["metadata"].get("annotations", {}).get(rollout.SERVES)
            found[name] = self.cluster.environment(name), serves, one["spec"]["replicas"], annotations
        return found

    def check_stable(self, version):
        """Every place that says what is stable says this version."""
        assert store.labels(self.volume, "toy")["stable"] == version
        assert f'version_labels {{ key: "stable" value: {version} }}' in (self.volume / store.CONFIG).read_text()
        if self.namespace:
            [environment, serves, _, _] = self.state()["seaway"]
            assert environment | {rollout.MODEL: "toy", rollout.VERSION: str(version)} == environment
            assert serves == f"toy/{version}@{self.digest(version)}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    volume = tmp_path_factory.mktemp("made") / "models"
    for seed in (1, 2, 3):
        toy.make(volume.parent / str(seed), seed=seed).publish(volume)
        of = store.read_card(volume, "toy", seed)
        folder = store.evidence(volume, "toy", of.sha256) / "load-a"
        folder.mkdir(parents=True)
        cards.write(
            folder, Card("evidence", "toy", metrics=GOOD, settings={"measured_at": "x"}, parents={"version": of})
        )
    return volume


@pytest.fixture
def worlds(tmp_path, made, monkeypatch):
    with ExitStack() as stack:
        numbers = iter(range(9))

        def new(on_cluster):
            return World(tmp_path / str(next(numbers)), made, on_cluster, monkeypatch, stack)

        yield new


PLACES = pytest.mark.parametrize("on_cluster", [False, True], ids=["folder", "cluster"])


@PLACES
def test_deploy_ends_alike_by_stage_and_verb(worlds, on_cluster):
    states = []
    for way in ("verb", "stage", "component"):
        world = worlds(on_cluster)
        world.deploy(way, 3)
        states.append(world.state())
        assert states[-1]["canary"] == 3
        if on_cluster:
            [environment, serves, replicas, annotations] = states[-1]["seaway-canary"]
            assert (environment[rollout.VERSION], serves) == ("3", f"toy/3@{world.digest(3)}")
            assert (replicas, annotations[rollout.CAUSE]) == (1, f"canary: {serves}")
    assert states[0] == states[1] == states[2]


@PLACES
def test_promote_ends_alike_by_stage_and_verb(worlds, on_cluster):
    states = []
    for way in ("verb", "stage", "component"):
        world = worlds(on_cluster)
        world.promote(way, 1)
        world.deploy(way, 2)
        world.promote(way, 2)
        world.check_stable(2)
        states.append(world.state())
        assert [move.version for move in states[-1]["history"]] == [1, 2]
        if on_cluster:
            assert states[-1]["seaway-canary"][2] == 0, "the canary has ended"
    assert states[0] == states[1] == states[2]


@PLACES
def test_rollback_ends_alike_by_stage_and_verb_and_changes_every_place(worlds, on_cluster):
    states = []
    for way in ("verb", "stage"):
        world = worlds(on_cluster)
        for version in (1, 2, 3):
            world.promote("verb", version)
        world.rollback(way)
        world.check_stable(2)
        once = world.state()
        world.rollback(way)
        assert world.state() == once, "what was rolled back is not rolled back again"
        world.rollback(way, version=1)
        world.check_stable(1)
        states.append((once, world.state()))
    assert states[0] == states[1]


@PLACES
def test_after_another_promotion_it_goes_back_again(worlds, on_cluster):
    world = worlds(on_cluster)
    for version in (1, 2):
        world.promote("verb", version)
    world.rollback("verb")
    world.check_stable(1)
    world.promote("verb", 3)
    world.rollback("verb")
    world.check_stable(1)


@PLACES
@pytest.mark.parametrize(
    ("what", "where"),
    [
        ("deploy", "set_label"),
        ("deploy", "write_models_config"),
        ("promote", "set_label"),
        ("promote", "_note"),
        ("promote", "write_models_config"),
        ("rollback", "set_label"),
        ("rollback", "_note"),
        ("rollback", "write_models_config"),
    ],
)
def test_what_was_interrupted_is_completed_by_the_same_command(worlds, monkeypatch, on_cluster, what, where):
    world, undisturbed = worlds(on_cluster), worlds(on_cluster)
    commands = {
        "deploy": lambda w: w.deploy("verb", 3),
        "promote": lambda w: w.promote("verb", 3),
        "rollback": lambda w: w.rollback("verb"),
    }
    for one in (world, undisturbed):
        for version in (1, 2):
            one.promote("verb", version)

    kept = getattr(store, where)

    def crash(*given):
        if where == "_note":  # between stable's history, which is written first, and the labels
            kept(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, where, crash)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        commands[what](world)
    if what != "deploy" and on_cluster:
        assert world.cluster.environment("seaway")[rollout.VERSION] == {"promote": "3", "rollback": "1"}[what]
    monkeypatch.setattr(store, where, kept)
    for _ in range(2):
        commands[what](world)
        commands[what](undisturbed)
        assert world.state() == undisturbed.state()


@PLACES
@pytest.mark.parametrize("where", ["set_label", "_note", "write_models_config"])
def test_a_promotion_that_was_interrupted_can_be_rolled_back(worlds, monkeypatch, on_cluster, where):
    world, kept = worlds(on_cluster), getattr(store, where)
    for version in (1, 2):
        world.promote("verb", version)

    def crash(*given):
        if where == "_note":
            kept(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, where, crash)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        world.promote("verb", 3)
    monkeypatch.setattr(store, where, kept)
    for _ in range(2):
        world.rollback("verb")
        # In a folder nothing had begun where not even the history was written: stable is 2, and 1 was before.
        world.check_stable(1 if where == "set_label" and not on_cluster else 2)


def test_a_rollout_that_does_not_come_up_leaves_every_place_as_it_was(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    labels = store.labels(world.volume, "toy")
    world.cluster.broken = {"1", "3"}
    for command in (lambda: world.verb("rollback"), lambda: world.verb("promote", version=3)):
        with pytest.raises(errors.Refused, match="stable was not moved"):
            command()
        assert store.labels(world.volume, "toy") == labels
        world.check_stable(2)
    with pytest.raises(errors.Refused, match="stable was not moved"):
        world.verb("rollback", volume="")
    world.cluster.broken = set()
    said = world.verb("rollback", volume="")  # to version 1 again, and not to 3, which a newer revision names
    assert "rolled back from toy/2" in said
    assert "stable is toy/1 again" in said
    world.rollback("verb")
    world.check_stable(1)


def test_without_the_volume_the_cluster_alone_moves_and_the_command_for_the_labels_is_told(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    said = world.verb("rollback", volume="", name="")
    assert world.cluster.environment("seaway")[rollout.VERSION] == "1"
    assert store.labels(world.volume, "toy")["stable"] == 2, "which is not here"
    assert "labels in the model volume were not changed" in said
    shown = world.verb("status", name="")
    assert f"seaway serves toy/1, but the label stable in {world.volume} is on 2" in shown
    assert "but the label stable" in world.verb("versions", name="")
    [command] = re.findall(r"^  seaway rollback (.+)$", said, re.MULTILINE)
    done = CliRunner().invoke(app, ["rollback", *command.replace("DIR", str(world.volume)).split()])
    assert done.exit_code == 0, done.output
    world.check_stable(1)
    assert "but the label" not in world.verb("status", name="") + world.verb("versions", name="")


def test_after_kubectl_s_undo_the_labels_follow_and_nothing_rolls_forward(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    world.cluster.undo("seaway")
    assert "seaway serves toy/1, but the label stable" in world.verb("status", name="")
    for _ in range(2):
        world.rollback("verb")
        world.check_stable(1)


def test_the_first_promotion_on_a_cluster_goes_back_by_the_volume_s_history(worlds):
    """Its earlier revision names no version: those pods would serve what is labelled stable, which is the new one."""
    world = worlds(True)
    store.set_label(world.volume, "toy", "stable", 1)
    world.promote("verb", 2)
    with pytest.raises(errors.NotFound, match="add --volume DIR"):
        world.verb("rollback", volume="")
    world.rollback("verb")
    world.check_stable(1)


def test_what_is_refused(worlds):
    folder, cluster = worlds(False), worlds(True)
    for world in (folder, cluster):
        with pytest.raises(errors.NotFound):
            world.rollback("verb")
        for version in (1, 2):
            world.promote("verb", version)
        with pytest.raises(errors.Refused, match=r"version 3 was never stable, as far as is known here \(1, 2 were\)"):
            world.rollback("verb", version=3)
        (store.path(world.volume, "toy", 1) / "saved_model.pb").write_bytes(b"other")
        with pytest.raises(errors.CardError, match="changed"):
            world.rollback("verb")
        world.check_stable(2)
    with pytest.raises(errors.InvalidInput, match="--volume"):
        rollback(None)
    with pytest.raises(errors.InvalidInput, match="add --volume"):
        cluster.verb("deploy", version=3, volume="", url=cluster.url)


def test_labels_that_are_damaged_are_set_again_as_the_message_says(worlds):
    world = worlds(False)
    for version in (1, 2):
        world.promote("verb", version)
    file = world.volume / "toy" / store.LABELS
    file.write_text("{")
    with pytest.raises(errors.Unavailable, match="remove the file and set the labels again: seaway rollback"):
        world.verb("rollback", version=2)
    file.unlink()
    world.verb("rollback", version=2)
    world.check_stable(2)


def test_another_volume_than_the_cluster_s_is_noticed(worlds, tmp_path):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    other = tmp_path / "other"
    for seed in (7, 8):
        toy.make(tmp_path / f"seed{seed}", seed=seed).publish(other)
    with pytest.raises(errors.Refused, match="not the volume which the cluster serves"):
        world.verb("rollback", volume=other)
    world.check_stable(2)
    assert store.labels(other, "toy") == {}


def test_a_canary_without_the_volume_says_what_is_missing(worlds):
    world = worlds(True)
    said = world.verb("deploy", version=3, volume="")
    assert world.state()["seaway-canary"][1] == "toy/3"
    assert "the label canary in the model volume was not changed and the digest is not known" in said
    world.deploy("verb", 3)
    assert world.state()["seaway-canary"][1] == f"toy/3@{world.digest(3)}"


def test_prune_keeps_what_the_cluster_serves_whatever_the_labels_say(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    world.verb("rollback", volume="", name="")
    assert json.loads((world.volume / "toy" / store.LABELS).read_text()) == {"stable": 2}
    assert "removed" not in world.verb("versions", name="", prune=1)
    assert store.versions(world.volume, "toy") == [1, 2, 3]
