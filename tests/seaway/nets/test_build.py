import pytest
import torch

from seaway.errors import ModelError
from seaway.nets import mlp
from seaway.nets.build import NETS, build


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("size", [(28, 28), (9, 14), (1, 1)])
def test_every_net_gives_logits_for_any_size(net, size):
    torch.manual_seed(0)
    built = build(net, size, 5).eval()
    logits = built(torch.rand(3, 1, *size))
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    # logits, not probabilities: a softmax's rows would sum to one
    assert not torch.allclose(logits.sum(dim=1), torch.ones(3), atol=1e-3)


@pytest.mark.parametrize("net", sorted(NETS))
def test_a_picture_is_judged_alone(net):
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


def test_an_unknown_net_names_those_there_are():
    with pytest.raises(ModelError, match=r"'resnet' is no network.*cnn, mlp"):
        build("resnet", (28, 28), 62)


@pytest.mark.parametrize(("size", "classes"), [((28, 28), 1), ((0, 28), 62)])
def test_a_net_for_nothing_is_refused(size, classes):
    with pytest.raises(ModelError, match="at least one pixel and two classes"):
        build("cnn", size, classes)
