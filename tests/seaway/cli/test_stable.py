"""Deploy, promote and rollback reach the same state as stage and as verb, in a folder and on a fake cluster API.

The same command completes an interrupted one. tests/e2e compares them on a real cluster."""

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
from seaway.artifacts import artifact_metadata, model_repository, serving_profile  # noqa: E402
from seaway.artifacts.artifact_metadata import ArtifactMetadata  # noqa: E402
from seaway.artifacts.serving_profile import Candidate, Parity, Profile  # noqa: E402
from seaway.cli.main import app  # noqa: E402
from seaway.kube import api_client, rollout  # noqa: E402
from seaway.pipeline.definitions import component  # noqa: E402
from seaway.promote.rollback import rollback  # noqa: E402

GOOD = {"requests": 1000.0, "wrong": 0.0, "failed": 0.0, "foreign": 0.0}


class World:
    """A model repository with versions 1 to 3 of "toy", each with good evidence, a server that follows it, and
    optionally a cluster. Nothing is labelled, and the cluster serves what is stable."""

    def __init__(self, folder, published, on_cluster, monkeypatch, stack):
        self.repository = folder / "models"
        shutil.copytree(published, self.repository)
        self.namespace = "seaway" if on_cluster else ""
        self.cluster = Cluster()
        host = stack.enter_context(self.cluster.serving())
        self.api = stack.enter_context(client.ApiClient(client.Configuration(host=host)))
        self.server = stack.enter_context(serving(self.repository))
        self.url = self.server.url
        self.monkeypatch = monkeypatch

    def digest(self, version):
        return model_repository.read_metadata(self.repository, "toy", version).sha256

    def here(self):
        """Connects commands to this world's cluster."""
        self.monkeypatch.setattr(api_client, "connect", lambda context="": self.api)

    def options(self, **more):
        options = {"repository": self.repository, "name": "toy", "namespace": self.namespace} | more
        return [word for key, value in options.items() if value for word in (f"--{key}", str(value))]

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

    def tune(self, version, *candidate):
        """Writes the version's serving profile; returns its settings."""
        of = model_repository.read_metadata(self.repository, "toy", version)
        chosen = Candidate(*candidate)
        parity = {chosen.backend: {"serving_default": Parity(40, 0, 0.0)}}
        profile = Profile(f"toy@{of.sha256}", "2026-12-01", "a CPU", 2, chosen, "it was faster", (), (), parity)
        serving_profile.write(self.repository, "toy", of, profile)
        return profile.settings

    def measure(self, version, **settings):
        """Stores the newest evidence of the version."""
        of = model_repository.read_metadata(self.repository, "toy", version)
        stored = model_repository.evidence(self.repository, "toy", of.sha256)
        folder = stored / f"load-z{len(list(stored.iterdir()))}"
        folder.mkdir()
        settings = {"measured_at": f"y{len(list(stored.iterdir()))}"} | settings
        found = ArtifactMetadata("evidence", "toy", metrics=GOOD, settings=settings, parents={"version": of})
        artifact_metadata.write(folder, found)

    def settings(self, deployment):
        return rollout.read(self.api, self.namespace, deployment).settings

    def deploy(self, way, version):
        if way == "verb":
            self.verb("deploy", version=version, url=self.url)
        elif way == "stage":
            self.main(deploy_main, version=version, url=self.url)
        else:
            self.here()
            component("deploy").python_func(self.url, str(self.repository), "toy", version, self.namespace)

    def promote(self, way, version):
        if way == "verb":
            self.verb("promote", version=version)
        elif way == "stage":
            self.main(promote_main, version=version)
        else:
            [evidence] = model_repository.evidence(self.repository, "toy", self.digest(version)).glob("*/")
            artifact = type("Artifact", (), {"path": str(evidence)})
            self.here()
            component("promote").python_func(str(self.repository), "toy", version, self.namespace, artifact)

    def rollback(self, way, **more):
        if way == "verb":
            return self.verb("rollback", **more)
        return self.main(promote_main, "--rollback", **more)

    def state(self):
        """Everything that names a version."""
        config = (self.repository / model_repository.CONFIG).read_text().replace(str(self.repository), "VOLUME")
        state = {
            "config": config,
            "history": model_repository.history(self.repository, "toy"),
            **model_repository.labels(self.repository, "toy"),
        }
        for name, one in self.cluster.deployments.items() if self.namespace else ():
            annotations = dict(one["metadata"]["annotations"])
            serves = one["spec"]["template"]["metadata"].get("annotations", {}).get(rollout.SERVES)
            state[name] = self.cluster.environment(name), serves, one["spec"]["replicas"], annotations
        return state

    def check_stable(self, version):
        """Checks that everything that names the stable version names this one."""
        assert model_repository.labels(self.repository, "toy")["stable"] == version
        assert (
            f'version_labels {{ key: "stable" value: {version} }}'
            in (self.repository / model_repository.CONFIG).read_text()
        )
        if self.namespace:
            [environment, serves, _, _] = self.state()["seaway"]
            assert environment | {rollout.MODEL: "toy", rollout.VERSION: str(version)} == environment
            assert serves == f"toy/{version}@{self.digest(version)}"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    repository = tmp_path_factory.mktemp("published") / "models"
    for seed in (1, 2, 3):
        toy.make(repository.parent / str(seed), seed=seed).publish(repository)
        of = model_repository.read_metadata(repository, "toy", seed)
        folder = model_repository.evidence(repository, "toy", of.sha256) / "load-a"
        folder.mkdir(parents=True)
        artifact_metadata.write(
            folder,
            ArtifactMetadata("evidence", "toy", metrics=GOOD, settings={"measured_at": "x"}, parents={"version": of}),
        )
    return repository


@pytest.fixture
def worlds(tmp_path, published, monkeypatch):
    with ExitStack() as stack:
        numbers = iter(range(9))

        def new(on_cluster):
            return World(tmp_path / str(next(numbers)), published, on_cluster, monkeypatch, stack)

        yield new


PLACES = pytest.mark.parametrize("on_cluster", [False, True], ids=["folder", "cluster"])


@PLACES
def test_deploy_reaches_the_same_state_as_stage_and_verb(worlds, on_cluster):
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
def test_promote_reaches_the_same_state_as_stage_and_verb(worlds, on_cluster):
    states = []
    for way in ("verb", "stage", "component"):
        world = worlds(on_cluster)
        world.promote(way, 1)
        world.deploy(way, 2)
        world.promote(way, 2)
        world.check_stable(2)
        states.append(world.state())
        assert [move.version for move in states[-1]["history"]] == [1, 2]
        assert "canary" not in states[-1], "the canary has ended"
        if on_cluster:
            assert states[-1]["seaway-canary"][2] == 0
    assert states[0] == states[1] == states[2]


@PLACES
def test_rollback_reaches_the_same_state_as_stage_and_verb(worlds, on_cluster):
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
def test_rollback_works_again_after_another_promotion(worlds, on_cluster):
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
def test_the_same_command_completes_an_interrupted_one(worlds, monkeypatch, on_cluster, what, where):
    world, undisturbed = worlds(on_cluster), worlds(on_cluster)
    commands = {
        "deploy": lambda w: w.deploy("verb", 3),
        "promote": lambda w: w.promote("verb", 3),
        "rollback": lambda w: w.rollback("verb"),
    }
    for one in (world, undisturbed):
        for version in (1, 2):
            one.promote("verb", version)

    original = getattr(model_repository, where)

    def crash(*arguments):
        if where == "_note":  # between stable's history, which is written first, and the labels
            original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(model_repository, where, crash)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        commands[what](world)
    if what != "deploy" and on_cluster:
        assert world.cluster.environment("seaway")[rollout.VERSION] == {"promote": "3", "rollback": "1"}[what]
    monkeypatch.setattr(model_repository, where, original)
    for _ in range(2):
        commands[what](world)
        commands[what](undisturbed)
        assert world.state() == undisturbed.state()


@PLACES
@pytest.mark.parametrize("where", ["set_label", "_note", "write_models_config"])
def test_an_interrupted_promotion_can_be_rolled_back(worlds, monkeypatch, on_cluster, where):
    world, original = worlds(on_cluster), getattr(model_repository, where)
    for version in (1, 2):
        world.promote("verb", version)

    def crash(*arguments):
        if where == "_note":
            original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(model_repository, where, crash)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        world.promote("verb", 3)
    monkeypatch.setattr(model_repository, where, original)
    for _ in range(2):
        world.rollback("verb")
        # In a folder nothing had begun where not even the history was written: stable is 2, and 1 was before.
        world.check_stable(1 if where == "set_label" and not on_cluster else 2)


@PLACES
def test_a_canary_of_another_version_outlives_a_promotion(worlds, on_cluster):
    world = worlds(on_cluster)
    world.deploy("verb", 3)
    world.promote("verb", 2)
    assert model_repository.labels(world.repository, "toy") == {"stable": 2, "canary": 3}
    if on_cluster:
        assert world.state()["seaway-canary"][2] == 1


@PLACES
def test_a_rollback_restores_no_canary(worlds, on_cluster):
    world = worlds(on_cluster)
    world.promote("verb", 1)
    world.deploy("verb", 2)
    world.promote("verb", 2)
    world.rollback("verb")
    assert model_repository.labels(world.repository, "toy") == {"stable": 1}


def test_a_failed_rollout_changes_nothing(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    labels = model_repository.labels(world.repository, "toy")
    world.cluster.broken = {"1", "3"}
    for command in (lambda: world.verb("rollback"), lambda: world.verb("promote", version=3)):
        with pytest.raises(errors.Refused, match="stable was not moved"):
            command()
        assert model_repository.labels(world.repository, "toy") == labels
        world.check_stable(2)
    with pytest.raises(errors.Refused, match="stable was not moved"):
        world.verb("rollback", repository="")
    world.cluster.broken = set()
    output = world.verb("rollback", repository="")  # to version 1 again, and not to 3, which a newer revision names
    assert "rolled back from toy/2" in output
    assert "stable is toy/1 again" in output
    world.rollback("verb")
    world.check_stable(1)


def test_without_the_repository_only_the_cluster_moves_and_the_command_for_the_labels_is_printed(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    output = world.verb("rollback", repository="", name="")
    assert world.cluster.environment("seaway")[rollout.VERSION] == "1"
    assert model_repository.labels(world.repository, "toy")["stable"] == 2, "which is not here"
    assert "the labels were not updated, because no model repository was given" in output
    shown = world.verb("status", name="")
    assert f"seaway serves toy/1, but the label stable in {world.repository} is on 2" in shown
    assert re.search(r"if the Deployment is right, set the label: \S+ rollback --version 1 --name toy ", shown)
    [command] = re.findall(r"if the label is right, roll the Deployment out: \S+ (rollback --version 2 .+)", shown)
    assert CliRunner().invoke(app, command.split()).exit_code == 0
    world.check_stable(2)
    world.verb("rollback", repository="", name="", version=1)
    assert "but the label stable" in world.verb("versions", name="")
    [command] = re.findall(r"^  \S*seaway rollback (.+)$", output, re.MULTILINE)
    done = CliRunner().invoke(app, ["rollback", *command.replace("DIR", str(world.repository)).split()])
    assert done.exit_code == 0, done.output
    world.check_stable(1)
    assert "stable is toy/1 again" in done.output, "the label moved"
    assert "stable is already toy/1" in world.verb("rollback")
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


def test_the_first_promotion_on_a_cluster_is_rolled_back_by_the_repository_s_history(worlds):
    """Its earlier revision names no version: those pods would serve what is labelled stable, which is the new one."""
    world = worlds(True)
    model_repository.set_label(world.repository, "toy", "stable", 1)
    world.promote("verb", 2)
    with pytest.raises(errors.NotFound, match="add --model-repository DIR"):
        world.verb("rollback", repository="")
    world.rollback("verb")
    world.check_stable(1)


def test_refusals(worlds):
    folder, cluster = worlds(False), worlds(True)
    for world in (folder, cluster):
        with pytest.raises(errors.NotFound):
            world.rollback("verb")
        for version in (1, 2):
            world.promote("verb", version)
        with pytest.raises(errors.Refused, match=r"version 3 was never stable \(on record: 1, 2\)"):
            world.rollback("verb", version=3)
        (model_repository.path(world.repository, "toy", 1) / "saved_model.pb").write_bytes(b"other")
        with pytest.raises(errors.MetadataError, match="changed"):
            world.rollback("verb")
        world.check_stable(2)
    with pytest.raises(errors.InvalidInput, match="--model-repository"):
        rollback(None)
    with pytest.raises(errors.InvalidInput, match="add --model-repository"):
        cluster.verb("deploy", version=3, repository="", url=cluster.url)


def test_damaged_labels_are_set_again_as_the_message_says(worlds):
    world = worlds(False)
    for version in (1, 2):
        world.promote("verb", version)
    file = world.repository / "toy" / model_repository.LABELS
    file.write_text("{")
    with pytest.raises(errors.Unavailable, match="delete it, then set the labels again: `seaway rollback --version N"):
        world.verb("rollback", version=2)
    file.unlink()
    world.verb("rollback", version=2)
    world.check_stable(2)


def test_another_repository_than_the_cluster_s_is_refused(worlds, tmp_path):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    other = tmp_path / "other"
    for seed in (7, 8):
        toy.make(tmp_path / f"seed{seed}", seed=seed).publish(other)
    with pytest.raises(errors.Refused, match="the cluster serves another model repository"):
        world.verb("rollback", repository=other)
    world.check_stable(2)
    assert model_repository.labels(other, "toy") == {}


def test_a_deployment_of_another_model_is_not_taken_over(worlds):
    world = worlds(True)
    world.promote("verb", 1)
    rollout.apply(world.api, world.namespace, rollout.STABLE, "other/4", "promoted by hand")
    with pytest.raises(errors.Refused, match="seaway/seaway serves other/4, and a Deployment serves one model"):
        world.verb("promote", version=2)
    assert rollout.read(world.api, world.namespace, rollout.STABLE).serves == "other/4"
    assert model_repository.labels(world.repository, "toy") == {"stable": 1}


def test_a_canary_of_another_model_is_refused_before_anything_changes(worlds):
    world = worlds(True)
    rollout.apply(world.api, world.namespace, rollout.STABLE, "other/4", "promoted by hand")
    patches, canary = list(world.cluster.patches), world.cluster.environment("seaway-canary")
    for more in ({}, {"repository": ""}):
        with pytest.raises(errors.Refused, match="seaway/seaway serves other/4, and a Deployment serves one model"):
            world.verb("deploy", version=3, **more)
    assert (world.cluster.patches, world.cluster.environment("seaway-canary")) == (patches, canary)
    assert model_repository.labels(world.repository, "toy") == {}


def test_a_rollback_to_another_model_is_a_change(worlds):
    world = worlds(True)
    world.promote("verb", 1)
    rollout.apply(world.api, world.namespace, rollout.STABLE, "other/1", "promoted by hand")
    assert "stable is toy/1 again (rolled back from other/1)" in world.verb("rollback")
    world.check_stable(1)


def test_the_status_is_1_until_every_replica_runs_the_version(worlds):
    world = worlds(True)
    world.promote("verb", 1)
    assert "ready     2 of 2\n" in world.verb("status", name="")
    world.cluster.broken = {"2"}
    rollout.apply(world.api, world.namespace, rollout.STABLE, "toy/2", "by hand")
    world.here()
    done = CliRunner().invoke(app, ["status", "--namespace", "seaway"])
    assert done.exit_code == 1
    assert "seaway serves toy/2" in done.output
    assert "ready     2 of 2; the rollout is not complete" in done.output


def test_a_canary_without_the_repository_says_what_is_missing(worlds):
    world = worlds(True)
    output = world.verb("deploy", version=3, repository="")
    assert world.state()["seaway-canary"][1] == "toy/3"
    assert "the canary label was not updated, because no model repository was given" in output
    world.deploy("verb", 3)
    assert world.state()["seaway-canary"][1] == f"toy/3@{world.digest(3)}"


def test_prune_keeps_versions_that_the_cluster_serves(worlds):
    world = worlds(True)
    for version in (1, 2):
        world.promote("verb", version)
    world.verb("rollback", repository="", name="")
    assert json.loads((world.repository / "toy" / model_repository.LABELS).read_text()) == {"stable": 2}
    assert "removed" not in world.verb("versions", name="", prune=1)
    assert model_repository.versions(world.repository, "toy") == [1, 2, 3]


# ---- serving profiles


def test_a_profile_travels_with_the_version_and_comes_back_with_a_rollback(worlds):
    world = worlds(True)
    world.promote("verb", 1)
    assert world.settings(rollout.STABLE) == {}
    settings = world.tune(2, "onnx", 1, 2)
    assert settings == {"SEAWAY_BACKEND": "onnx", "SEAWAY_THREADS": "1"}
    world.server.backend = "onnx"
    output = world.verb("deploy", version=2, url=world.url)
    assert "with SEAWAY_BACKEND=onnx SEAWAY_THREADS=1" in output
    assert world.settings(rollout.CANARY) == settings
    assert world.settings(rollout.STABLE) == {}
    world.measure(2, backends=["onnx"], profile=settings)
    assert "with SEAWAY_BACKEND=onnx SEAWAY_THREADS=1" in world.verb("promote", version=2)
    world.check_stable(2)
    assert world.settings(rollout.STABLE) == settings
    status = CliRunner().invoke(app, ["status", "--namespace", "seaway"], env={"COLUMNS": "200"}).output
    assert "  profile   SEAWAY_BACKEND=onnx SEAWAY_THREADS=1" in status
    world.measure(3, backends=["savedmodel"], profile={})
    assert "with no serving profile" in world.verb("promote", version=3)
    assert world.settings(rollout.STABLE) == {}, "the settings are the version's, not the Deployment's"
    world.rollback("verb")
    world.check_stable(2)
    assert world.settings(rollout.STABLE) == settings
    world.rollback("verb", version=1)
    assert world.settings(rollout.STABLE) == {}


def test_the_same_version_gets_another_profile(worlds):
    world = worlds(True)
    world.promote("verb", 1)
    settings = world.tune(1, "savedmodel", 2, 1, False)
    world.server.backend = "savedmodel"
    world.deploy("verb", 1)
    world.measure(1, backends=["savedmodel"], profile=settings)
    world.promote("verb", 1)
    assert world.settings(rollout.STABLE) == settings
    assert world.cluster.environment("seaway")["TF_ENABLE_ONEDNN_OPTS"] == "0"
    world.cluster.broken = {"2"}
    with pytest.raises(errors.Refused, match="stable was not moved"):
        world.verb("promote", version=2)
    world.check_stable(1)
    assert world.settings(rollout.STABLE) == settings, "a failed rollout restores them"


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ({}, "the evidence was measured with an engine that it does not name, but stable would get onnx"),
        (
            {"backends": ["savedmodel"], "profile": {}},
            "the evidence was measured with savedmodel, but stable would get",
        ),
        ({"backends": ["onnx", "savedmodel"]}, "the responses came from different engines, onnx and savedmodel"),
        (
            {"backends": ["onnx"], "profile": {}},
            "measured with no serving profile, but stable would get SEAWAY_BACKEND=onnx SEAWAY_THREADS=1",
        ),
        (
            {"backends": ["onnx"], "profile": {"SEAWAY_BACKEND": "onnx", "SEAWAY_THREADS": "2"}},
            "the evidence was measured with SEAWAY_BACKEND=onnx SEAWAY_THREADS=2, but stable would get",
        ),
    ],
)
def test_evidence_of_another_engine_or_profile_is_refused(worlds, measured, reason):
    world = worlds(True)
    world.tune(1, "onnx", 1, 2)
    world.measure(1, **measured)
    with pytest.raises(errors.Refused) as refused:
        world.verb("promote", version=1)
    assert reason in str(refused.value)
    assert model_repository.labels(world.repository, "toy") == {}
    assert world.settings(rollout.STABLE) == {}


def test_evidence_with_a_profile_that_was_removed_since_is_refused(worlds):
    world = worlds(True)
    world.measure(1, backends=["onnx"], profile={"SEAWAY_BACKEND": "onnx", "SEAWAY_THREADS": "1"})
    with pytest.raises(errors.Refused, match="SEAWAY_THREADS=1, but stable would get no serving profile"):
        world.verb("promote", version=1)


def test_a_canary_that_runs_with_other_settings_is_refused(worlds):
    world = worlds(True)
    world.deploy("verb", 1)
    settings = world.tune(1, "onnx", 1, 2)
    world.measure(1, backends=["onnx"], profile=settings)
    with pytest.raises(errors.Refused, match="the canary runs with no serving profile, but stable would get SEAWAY_"):
        world.verb("promote", version=1)
    world.server.backend = "savedmodel"
    with pytest.raises(errors.Refused, match="savedmodel responded over REST instead of onnx, which the canary's pod"):
        world.verb("deploy", version=1, url=world.url)
    world.server.backend = "onnx"
    world.deploy("verb", 1)
    world.promote("verb", 1)
    assert world.settings(rollout.STABLE) == settings


def test_without_a_cluster_a_profile_changes_no_server(worlds):
    world = worlds(False)
    world.tune(1, "onnx", 1, 2)
    output = world.verb("deploy", version=1, url=world.url)
    assert "note: toy/1 has a serving profile, SEAWAY_BACKEND=onnx SEAWAY_THREADS=1; the server at" in output
    world.promote("verb", 1)
    world.check_stable(1)


@PLACES
def test_a_damaged_profile_is_named_before_anything_moves(worlds, on_cluster):
    world = worlds(on_cluster)
    world.tune(1, "onnx", 1, 2)
    file = serving_profile.path(world.repository, "toy", world.digest(1))
    file.write_text("{}")
    with pytest.raises(errors.MetadataError, match=f"{file}: schema_version is None"):
        world.verb("deploy", version=1, url=world.url)
    assert model_repository.labels(world.repository, "toy") == {}
