"""Winograd's convolutions equal float64 ones to rounding, and stand in where they should."""

import copy
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ad.backbone import Backbone
from ad.features import PatchSettings, patch_features, plan_extraction
from ad.parallel import chunk_map
from ad.winograd import MIN_CHANNELS, WinogradConv2d, use_winograd

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients():
    """Run the test for inference."""
    with torch.inference_mode():
        yield


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw seeded values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def convolution(n_in: int, n_out: int, *, bias: bool = False) -> nn.Conv2d:
    """Make a seeded convolution."""
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias).requires_grad_(False)
    conv.weight.copy_(seeded(n_out, n_in, 3, 3, seed=1))
    if bias:
        conv.bias.copy_(seeded(n_out, seed=2))
    return conv


def exact(conv: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """Convolve in float64 as PyTorch does."""
    bias = None if conv.bias is None else conv.bias.double()
    return F.conv2d(images.double(), conv.weight.double(), bias, padding=1)


SHAPES = [
    (1, 128, 130, 14, 14),
    (5, 128, 130, 14, 14),  # the last step has fewer images
    (5, 24, 16, 7, 9),
    (2, 16, 24, 30, 31),  # more tiles than a step takes
    (5, 160, 128, 1, 1),
    (1, 8, 3, 1, 6),
    (2, 1, 1, 2, 2),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("n", "n_in", "n_out", "height", "width"), SHAPES)
def test_equals_a_convolution_in_float64(n, n_in, n_out, height, width, bias):
    conv, images = convolution(n_in, n_out, bias=bias), seeded(n, n_in, height, width)
    expected, found = exact(conv, images), WinogradConv2d(conv)(images)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_case_by_hand():
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
    conv.weight.copy_(torch.arange(1.0, 10.0).view(1, 1, 3, 3))
    image = torch.zeros(1, 1, 4, 5)
    image[0, 0, 1, 2] = 1
    # A single point paints the filter around itself, turned by half a circle.
    expected = [[0, 9, 8, 7, 0], [0, 6, 5, 4, 0], [0, 3, 2, 1, 0], [0, 0, 0, 0, 0]]
    assert WinogradConv2d(conv)(image)[0, 0].tolist() == expected


def test_the_layout_of_the_input_does_not_matter():
    conv, images = WinogradConv2d(convolution(16, 16)), seeded(3, 16, 9, 8)
    expected = conv(images)
    strided = torch.zeros(3, 16, 18, 9)[:, :, ::2, :8].copy_(images)
    for same in (images.contiguous(memory_format=torch.channels_last), strided):
        assert torch.equal(conv(same), expected)
    assert conv(images[:0]).shape == (0, 16, 9, 8)


def test_an_image_does_not_depend_on_its_place_in_the_batch():
    conv, images = WinogradConv2d(convolution(128, 128)), seeded(5, 128, 14, 13)
    assert torch.equal(conv(images).flip(0), conv(images.flip(0)))
    assert torch.equal(conv(images)[3:4], conv(images[3:4]))


def test_threads_do_not_change_a_bit():
    conv = WinogradConv2d(convolution(128, 128))
    images = seeded(8, 128, 14, 14)

    def convolved(threads: int) -> torch.Tensor:
        def one(start: int) -> torch.Tensor:
            with torch.inference_mode():
                return conv(images[start : start + 2])

        with chunk_map(threads) as run:
            return torch.cat(list(run(one, range(0, 8, 2))))

    assert torch.equal(convolved(1), convolved(2))


def test_calls_at_the_same_time_share_nothing():
    conv, batches = (
        WinogradConv2d(convolution(32, 32)),
        [seeded(4, 32, 14, 14, seed=s) for s in (1, 2)],
    )
    expected = [conv(batch) for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        for found, wanted in zip(pool.map(conv, batches * 10), expected * 10, strict=True):
            assert torch.equal(found, wanted)


class Sub(nn.Conv2d):
    """A convolution that might compute something else."""


def test_which_convolutions_are_replaced():
    c = MIN_CHANNELS
    model = nn.ModuleDict(
        {
            "plain": nn.Conv2d(c, c, 3, padding=1),
            "without_bias": nn.Conv2d(c, 2 * c, (3, 3), stride=(1, 1), padding=(1, 1), bias=False),
            "within": nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, padding=1)),
            "kept": nn.Conv2d(c, c, 3, padding=1),
            "strided": nn.Conv2d(c, c, 3, padding=1, stride=2),
            "grouped": nn.Conv2d(c, c, 3, padding=1, groups=2),
            "dilated": nn.Conv2d(c, c, 3, padding=1, dilation=2),
            "unpadded": nn.Conv2d(c, c, 3),
            "reflected": nn.Conv2d(c, c, 3, padding=1, padding_mode="reflect"),
            "by_word": nn.Conv2d(c, c, 3, padding="same"),
            "pointwise": nn.Conv2d(c, c, 1),
            "wide": nn.Conv2d(c, c, 5, padding=1),
            "few_in": nn.Conv2d(c - 1, c, 3, padding=1),
            "few_out": nn.Conv2d(c, c - 1, 3, padding=1),
            "subclass": Sub(c, c, 3, padding=1),
        }
    )
    before, gone = dict(model.named_modules()), weakref.ref(model["plain"])
    assert use_winograd(model, keep=["kept"]) == 3
    replaced = {name for name, m in model.named_modules() if isinstance(m, WinogradConv2d)}
    assert replaced == {"plain", "without_bias", "within.1"}
    assert all(m is before[name] for name, m in model.named_modules() if name not in replaced)
    assert use_winograd(model, keep=["kept"]) == 0
    before.clear()
    assert gone() is None  # its memory is free
    with pytest.raises(ValueError, match="no 3 x 3 convolution"):
        WinogradConv2d(model["strided"])


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """Make a random network whose blocks all count: timm starts their last gammas at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("resnet18", pretrained=False).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.fill_(0.7)
    return model


SETTINGS = PatchSettings(3, None, None)


def plan(backbone: Backbone, device: str):
    """Plan the extraction of small images."""
    return plan_extraction(
        backbone,
        SETTINGS,
        image_size=96,
        batch_size=4,
        memory_gb=8.0,
        threads=1,
        device=device,
    )


def replaced(backbone: Backbone) -> int:
    """Count the convolutions that were replaced."""
    return sum(isinstance(module, WinogradConv2d) for module in backbone.model.modules())


def test_features_are_the_same_to_rounding(resnet):
    network = Backbone(copy.deepcopy(resnet), ["layer2", "layer3"], "random", None)
    images = seeded(4, 3, 96, 96)
    plain_plan = plan(network, "cuda")  # leaves the network as it is
    assert replaced(network) == 0
    expected = patch_features(network(images), SETTINGS)
    faster_plan = plan(network, "cpu")
    assert replaced(network) == 9
    network.model.to(memory_format=torch.channels_last)
    found = patch_features(network(images), SETTINGS)
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    assert not torch.equal(found, expected)
    assert faster_plan.bytes_per_image > plain_plan.bytes_per_image
    assert faster_plan.fixed_bytes > plain_plan.fixed_bytes
    assert plan(network, "cpu") == faster_plan


def test_layers_that_are_read_are_kept(resnet):
    model = copy.deepcopy(resnet)
    name = "layer2.1.conv2"
    model.feature_info = [{"module": name, "num_chs": 128, "reduction": 8}]
    network = Backbone(model, [name], "random", None)
    plan(network, "cpu")
    assert replaced(network) == 8
    assert type(model.get_submodule(name)) is nn.Conv2d
    assert network(seeded(1, 3, 96, 96))[0].shape == (1, 128, 12, 12)


class Allocations(TorchDispatchMode):
    """Add up the storages that operations return and were not given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.held: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation and note what it allocated."""
        kwargs = kwargs or {}
        given = {
            t.untyped_storage().data_ptr()
            for t in tree_leaves((args, kwargs))
            if isinstance(t, torch.Tensor)
        }
        result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given:
                self.sizes[storage.data_ptr()] = storage.nbytes()
                self.held.append(tensor)  # so that no later storage gets its address
        return result


@pytest.mark.parametrize(("n", "n_in", "n_out", "height", "width"), SHAPES)
def test_the_workspace_is_what_is_allocated(n, n_in, n_out, height, width):
    conv, images = WinogradConv2d(convolution(n_in, n_out)), seeded(n, n_in, height, width)
    with Allocations() as allocations:
        result = conv(images)
    workspace = sum(allocations.sizes.values()) - result.untyped_storage().nbytes()
    assert 0.9 * conv.workspace_bytes(images.shape) <= workspace
    assert workspace <= conv.workspace_bytes(images.shape)
