"""Layout channels pixel by pixel, Canny edges on shapes with a known outline, and users' edge pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from gensat.conditioning.edges import canny_edges, load_edges
from gensat.conditioning.layout import LAYOUT_CHANNELS, encode_layout
from gensat.errors import InputError
from gensat.geo.legend import BUILDING, CLASSES, SNOW, UNKNOWN


def channel(layout, name):
    return layout[:, LAYOUT_CHANNELS.index(name)]


def random_layout(seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, len(CLASSES), (3, 6, 8), generator=generator)
    return classes, torch.rand(3, 6, 8, generator=generator)


def test_channels_are_classes_then_known_then_edges():
    assert LAYOUT_CHANNELS[:10] == CLASSES[1:]
    assert LAYOUT_CHANNELS[10:] == ("known", "edges", "edges known")
    layout = encode_layout(torch.tensor([[UNKNOWN, BUILDING, SNOW]]))
    assert layout.shape == (1, 13, 1, 3) and layout.dtype == torch.float32
    assert not layout[0, :, 0, 0].any()
    assert layout[0, :, 0, 1].nonzero().flatten().tolist() == [BUILDING - 1, 10]
    assert layout[0, :, 0, 2].nonzero().flatten().tolist() == [SNOW - 1, 10]


def test_class_map_can_be_read_back():
    classes, edges = random_layout()
    layout = encode_layout(classes, edges)
    codes = torch.arange(1, 11)[:, None, None]
    assert torch.equal((layout[:, :10] * codes).sum(1).long(), classes)
    assert torch.equal(channel(layout, "known"), (classes != UNKNOWN).float())
    assert torch.equal(layout[:, :10].sum(1), channel(layout, "known"))
    assert torch.equal(channel(layout, "edges"), edges) and channel(layout, "edges known").all()


def test_no_edges_differs_from_edges_that_are_nowhere():
    classes, _ = random_layout()
    without, nowhere = encode_layout(classes), encode_layout(classes, torch.zeros(3, 6, 8))
    assert not without[:, 11:].any()
    assert not channel(nowhere, "edges").any() and channel(nowhere, "edges known").all()


def test_edges_may_be_unknown_in_part():
    edges = torch.tensor([[0.25, torch.nan]])
    layout = encode_layout(torch.zeros(1, 2, dtype=torch.uint8), edges)
    assert layout[0, 11:, 0].tolist() == [[0.25, 0.0], [1.0, 0.0]]


def test_each_pixel_stands_for_itself():
    classes, edges = random_layout()
    layout = encode_layout(classes, edges)
    assert torch.equal(encode_layout(classes[1], edges[1])[0], layout[1])
    assert torch.equal(encode_layout(classes[:, 2:5, 1:7], edges[:, 2:5, 1:7]), layout[:, :, 2:5, 1:7])


@pytest.mark.parametrize(("code", "name"), [(11, "11"), (-1, "-1"), (255, "255")])
def test_codes_that_are_no_class_are_named(code, name):
    with pytest.raises(InputError, match=f"codes {name} that are no class; give 0 to 10"):
        encode_layout(torch.tensor([[0, 5, code]]))


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0])
def test_edges_out_of_range_are_refused(value):
    with pytest.raises(InputError, match="scale them to"):
        encode_layout(torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[value]]))


def square():
    image = torch.full((1, 3, 32, 32), 0.1)
    image[:, :, 8:24, 8:24] = 0.9
    return image


def test_canny_finds_the_outline_of_a_square_and_nothing_else():
    edges = canny_edges(square())
    assert edges.shape == (1, 1, 32, 32) and set(edges.unique().tolist()) == {0.0, 1.0}
    rows, columns = edges[0, 0].nonzero().T
    inside = (rows >= 7) & (rows <= 24) & (columns >= 7) & (columns <= 24)
    deep = (rows > 9) & (rows < 22) & (columns > 9) & (columns < 22)
    assert inside.all() and not deep.any()
    assert edges[0, 0, 12:20, 6:10].sum(1).tolist() == [1.0] * 8  # one pixel wide on the left side


def test_canny_depends_on_thresholds_and_not_on_the_batch():
    weak = square() * 0.02
    assert not canny_edges(weak).any() and canny_edges(weak, low=0.005, high=0.01).any()
    together = canny_edges(torch.cat([square(), weak, torch.rand(1, 3, 32, 32)]))
    assert torch.equal(together[:1], canny_edges(square()))
    assert not canny_edges(torch.full((1, 3, 16, 16), 0.5)).any()


def test_canny_blur_removes_fine_texture():
    texture = 0.4 + 0.2 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert canny_edges(texture, sigma=0.5).any() and not canny_edges(texture, sigma=3).any()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (square() * 255, {}, "the picture has values from 25.5 to 229.5; scale"),
        (square() * torch.nan, {}, "scale them to 0..1"),
        (square(), {"low": 0.3}, "thresholds are 0.3 and 0.2"),
        (square(), {"sigma": 0}, "blur is 0 pixels"),
    ],
)
def test_canny_refuses_bad_input(image, options, message):
    with pytest.raises(InputError, match=message):
        canny_edges(image, **options)


DRAWING = np.zeros((4, 6), np.uint8)
DRAWING[1, 2:] = 255
DRAWING[3, 0] = 51


@pytest.mark.parametrize(
    "source",
    [
        DRAWING,
        DRAWING.astype(np.uint16) * 257,
        DRAWING / 255,
        np.repeat(DRAWING[..., None], 3, 2),
        Image.fromarray(DRAWING),
        Image.fromarray(DRAWING).convert("RGB"),
        Image.fromarray(DRAWING.astype(np.uint16) * 257),
        Image.fromarray(DRAWING.astype(np.int32) * 257),
    ],
    ids=["uint8", "uint16", "float", "rgb", "pil", "pil-rgb", "pil-16", "pil-int"],
)
def test_edge_pictures_of_every_kind_give_the_same_edges(source):
    edges = load_edges(source, width=6, height=4)
    assert edges.dtype == torch.float32
    np.testing.assert_allclose(edges, DRAWING / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_edges_are_read_from_a_file(suffix, tmp_path):
    path = tmp_path / f"edges.{suffix}"
    Image.fromarray(DRAWING > 100).save(path)
    for source in (path, str(path)):
        assert torch.equal(load_edges(source, width=6, height=4), torch.from_numpy(DRAWING > 100).float())


def test_a_users_picture_stays_open():
    picture = Image.fromarray(DRAWING)
    assert torch.equal(load_edges(picture, width=6, height=4), load_edges(picture, width=6, height=4))


def test_bad_edge_pictures_are_one_clear_sentence(tmp_path):
    with pytest.raises(InputError, match="is 6 x 4 pixels and the canvas 8 x 4; resize it"):
        load_edges(DRAWING, width=8, height=4)
    with pytest.raises(InputError, match="values from 0 to 255; scale"):
        load_edges(DRAWING.astype(np.float32), width=6, height=4)
    with pytest.raises(InputError, match=r"has shape \(4, 6, 4\); give"):
        load_edges(np.zeros((4, 6, 4)), width=6, height=4)
    (tmp_path / "edges.png").write_bytes(b"\x89PNG no picture")
    for name in ("edges.png", "absent.png"):
        with pytest.raises(InputError, match=rf"edge picture .*{name} cannot be read"):
            load_edges(tmp_path / name, width=6, height=4)
