import sys
from pathlib import Path

import pytest
import torch

from seaway.errors import ModelError
from seaway.nets import mlp, names
from seaway.nets.build import NETS, build, fingerprint


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("size", [(28, 28), (9, 14), (1, 1)])
def test_every_net_returns_logits_for_any_size(net, size):
    torch.manual_seed(0)
    built = build(net, size, 5).eval()
    logits = built(torch.rand(3, 1, *size))
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    # logits, not probabilities: a softmax's rows would sum to one
    assert not torch.allclose(logits.sum(dim=1), torch.ones(3), atol=1e-3)


@pytest.mark.parametrize("net", sorted(NETS))
def test_each_image_is_classified_independently(net):
    torch.manual_seed(0)
    built, images = build(net, (28, 28), 62).eval(), torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(built(images)[2:3], built(images[2:3]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("net", sorted(NETS))
def test_the_seed_decides_the_weights(net):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build(net, (28, 28), 62).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_mlp_is_784_512_256_classes():
    shapes = [tuple(p.shape) for p in build("mlp", (28, 28), 62).parameters() if p.ndim == 2]
    assert shapes == [(512, 784), (256, 512), (62, 256)]


def test_sizes_are_free():
    assert mlp.build((4, 4), 3, mlp.Sizes(first=7, second=5))[3].weight.shape == (5, 7)


def test_the_message_for_an_unknown_net_lists_the_nets():
    with pytest.raises(ModelError, match=r"'resnet' is not a network.*cnn, cnn-large, linear, mlp, torchvision:NAME"):
        build("resnet", (28, 28), 62)


def test_the_names_are_those_of_the_nets():
    assert sorted(NETS) == list(names.OWN)


@pytest.mark.parametrize(("size", "classes"), [((28, 28), 1), ((0, 28), 62)])
def test_a_net_without_pixels_or_classes_is_refused(size, classes):
    with pytest.raises(ModelError, match="at least one pixel and two classes"):
        build("cnn", size, classes)


# ---- torchvision's

# One a family and way of beginning; the size is what images of 28x28 are enlarged to inside the net.
VISION = {
    "resnet18": None,
    "mobilenet_v3_small": None,
    "squeezenet1_1": None,
    "densenet121": (29, 29),
    "vgg11": (32, 32),
}


@pytest.mark.parametrize("name", VISION)
def test_a_net_of_torchvision_takes_one_channel_and_the_dataset_s_size(name):
    torch.manual_seed(0)
    net = build(f"torchvision:{name}", (28, 28), 7).eval()
    resized = getattr(net, "resize", None)
    assert (resized.size if resized else None) == VISION[name]
    with torch.no_grad():
        logits = net(torch.rand(2, 1, 28, 28))
    assert logits.shape == (2, 7)
    assert not torch.equal(logits[0], logits[1])


def test_images_that_are_large_enough_are_not_resized():
    assert not hasattr(build("torchvision:vgg11", (40, 33), 3), "resize")


def test_the_message_for_an_unknown_torchvision_net_suggests_similar_ones():
    with pytest.raises(ModelError, match=r"torchvision:resnet19.*perhaps.*resnet18"):
        build("torchvision:resnet19", (28, 28), 7)


# ---- a user's own


@pytest.fixture
def mynets(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    sys.modules.pop("mynets", None)


def test_a_user_s_own_net_is_built(mynets):
    net = build("python:mynets:small", (4, 6), 5)
    assert net.training
    assert net(torch.rand(3, 1, 4, 6)).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("few", r"returns torch.float32 \[2, 4\] .* float32 \[2, 5\], a logit for each of the 5 classes"),
        ("half", "forward.. fails on float32|returns torch.float16"),
        ("tuples", "returns tuple for two images"),
        ("breaks", r"forward\(\) fails on float32 \[2, 1, 4, 6\]: RuntimeError"),
        ("nothing", "returned NoneType, not a torch.nn.Module"),
        ("raises", r"the function fails for \(4, 6\) and 5: ValueError: no such size \(.*mynets.py:\d+"),
        ("other", "TypeError"),
        ("number", "'number' is not callable"),
        ("missing", "'missing' does not exist in"),
    ],
)
def test_a_broken_user_net_is_reported(mynets, name, words):
    with pytest.raises(ModelError, match=words):
        build(f"python:mynets:{name}", (4, 6), 5)


@pytest.mark.parametrize("net", ["python:", "python:mynets", "python:nowhere:small"])
def test_a_name_that_cannot_be_found_is_reported(mynets, net):
    with pytest.raises(ModelError, match=r"--net .*(write python:MODULE:FUNCTION|no module 'nowhere')"):
        build(net, (4, 6), 5)


def test_the_fingerprint_is_that_of_the_user_s_file_alone(mynets, tmp_path, monkeypatch):
    assert fingerprint("cnn") == fingerprint("torchvision:resnet18") == ""
    first = fingerprint("python:mynets:small")
    assert len(first) == 64
    (tmp_path / "mynets.py").write_text((Path(__file__).parent / "mynets.py").read_text() + "# changed\n")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mynets")
    assert fingerprint("python:mynets:small") not in ("", first)
