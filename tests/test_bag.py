"""The bag of conditions: every window from its own footprint, every branch by the policy of the spec."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_spec

from gensat.conditioning.bag import ConditionBag, ControlImage, cut
from gensat.diffusion.guidance import Branch
from gensat.diffusion.inputs import Residuals
from gensat.diffusion.windows import Window
from gensat.errors import ModelError
from gensat.hub.spec import Signal
from gensat.types import Acquisition, Place

WINDOW = Window(0, 0, 4, 4)
FULL, TEXT, NOTHING = Branch.FULL, Branch.TEXT, Branch.UNCONDITIONAL


class Recorder:
    """Encoders that return what they were asked, as numbers, and count their calls."""

    def __init__(self):
        self.texts, self.vectors = [], []

    def text(self, words):
        self.texts.append(tuple(words))
        return torch.tensor([[[float(len(w))]] for w in words]), torch.ones(len(words), 1, dtype=torch.bool)

    def vector(self, places, acquisitions):
        self.vectors.append((tuple(places), tuple(acquisitions)))
        return torch.tensor([[p.lon if p else 0.0, a.gsd or 0.0] for p, a in zip(places, acquisitions, strict=True)])


def make(spec=None, **changes):
    recorder = Recorder()
    settings = {
        "prompts": ("a", "bb"),
        "negative": ("ccc", "dddd"),
        "place_of": lambda w: Place(lon=float(w.col), lat=0.0),
        "acquisition": Acquisition(gsd=0.5),
        "text": recorder.text,
        "vector": recorder.vector,
    }
    bag = ConditionBag(spec or toy_spec(), 2, 8, **{**settings, **changes})
    return bag, recorder


def signal(policy, route="time_vector"):
    return Signal(route, unconditional=policy)


def test_full_branch_has_everything():
    inputs = make()[0].inputs(Window(0, 7, 4, 4), FULL)
    assert inputs.tokens.flatten().tolist() == [1, 2]
    assert inputs.time_vector.tolist() == [[7, 0.5], [7, 0.5]]


def test_text_branch_drops_what_has_a_scale_of_its_own():
    inputs = make()[0].inputs(Window(0, 7, 4, 4), TEXT)  # in the toy's spec only the place is "dropped"
    assert inputs.tokens.flatten().tolist() == [1, 2] and inputs.time_vector.tolist() == [[0, 0.5], [0, 0.5]]


def test_unconditional_branch_drops_all_that_is_not_kept():
    inputs = make()[0].inputs(Window(0, 7, 4, 4), NOTHING)
    assert inputs.tokens.flatten().tolist() == [3, 4] and inputs.time_vector.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("policy", "seen"), [("kept", [7, 7, 7]), ("joint", [7, 7, 0]), ("dropped", [7, 0, 0])])
def test_policy_of_the_spec_decides(policy, seen):
    spec = toy_spec(signals={**toy_spec().signals, "place": signal(policy)})
    bag, _ = make(spec)
    assert [float(bag.inputs(Window(0, 7, 4, 4), b).time_vector[0, 0]) for b in (FULL, TEXT, NOTHING)] == seen


def test_kept_prompt_stays_in_every_branch():
    spec = toy_spec(signals={"prompt": signal("kept", "tokens")})
    bag, _ = make(spec)
    assert [bag.inputs(WINDOW, b).tokens.flatten().tolist() for b in Branch] == [[1, 2]] * 3


def test_signal_that_the_spec_does_not_name_is_dropped_with_everything():
    bag, _ = make(toy_spec(signals={}))
    assert [float(bag.inputs(Window(0, 7, 4, 4), b).time_vector[0, 0]) for b in (FULL, TEXT, NOTHING)] == [7, 7, 0]


def test_prompt_may_be_a_function_of_the_place():
    bag, recorder = make(prompts=lambda place: "east" if place.lon > 10 else "in the west")
    assert bag.inputs(Window(0, 20, 4, 4), FULL).tokens.flatten().tolist() == [4, 4]
    assert bag.inputs(Window(0, 2, 4, 4), FULL).tokens.flatten().tolist() == [11, 11]
    assert recorder.texts == [("east",) * 2, ("in the west",) * 2]


def test_encoders_run_once_for_the_same_words_and_places():
    bag, recorder = make()
    for _ in range(3):
        for branch in (FULL, TEXT, NOTHING):
            for col in (0, 5):
                bag.inputs(Window(0, col, 4, 4), branch)
    assert len(recorder.texts) == 2
    assert len(recorder.vectors) == 4  # two places, no place, nothing


def test_no_words_are_empty_words():
    bag, recorder = make(prompts=(), negative=())
    bag.inputs(WINDOW, FULL)
    bag.inputs(WINDOW, NOTHING)
    assert recorder.texts == [("", "")]


def test_model_without_encoders_gets_nothing():
    inputs = make(text=None, vector=None)[0].inputs(WINDOW, FULL)
    assert inputs.tokens is None and inputs.time_vector is None and inputs.controls == ()


def control_bag(policy="kept", **changes):
    spec = toy_spec(signals={"layout": signal(policy, "residuals")})
    picture = torch.arange(32.0 * 48).reshape(1, 1, 1, 32, 48)
    return make(spec, controls=[ControlImage(torch.nn.Identity(), picture, 0.7)], **changes)[0], picture


def test_windows_get_their_part_of_the_control_picture():
    bag, picture = control_bag()
    (control,) = bag.inputs(Window(1, 2, 2, 3), FULL).controls
    assert control.scale == 0.7 and control.image.shape == (2, 1, 1, 16, 24)
    assert torch.equal(control.image[1, 0, 0], picture[0, 0, 0, 8:24, 16:40])


def test_control_picture_is_unknown_outside_the_canvas():
    bag, picture = control_bag()
    (control,) = bag.inputs(Window(-1, 4, 3, 4), FULL).controls
    image = control.image[0, 0, 0]
    assert image.shape == (24, 32) and not image[:8].any() and not image[:, 16:].any()
    assert torch.equal(image[8:, :16], picture[0, 0, 0, :16, 32:])


@pytest.mark.parametrize(("policy", "seen"), [("kept", [1, 1, 1]), ("joint", [1, 1, 0]), ("dropped", [1, 0, 0])])
def test_dropped_control_picture_is_unknown_everywhere(policy, seen):
    bag, _ = control_bag(policy)
    images = [bag.inputs(Window(1, 1, 2, 2), b).controls[0].image for b in (FULL, TEXT, NOTHING)]
    assert [int(image.any()) for image in images] == seen


def test_a_control_of_another_signal_follows_that_ones_policy():
    spec = toy_spec(signals={"layout": signal("kept", "residuals"), "references": signal("joint", "residuals")})
    picture = torch.ones(1, 1, 1, 32, 32)
    controls = [ControlImage(torch.nn.Identity(), picture, signal=name) for name in ("layout", "references")]
    seen = make(spec, controls=controls)[0].inputs(WINDOW, NOTHING).controls
    assert [bool(c.image.any()) for c in seen] == [True, False]


def test_extra_channels_are_cut_on_the_latent_grid_and_dropped():
    spec = toy_spec(signals={"elevation": signal("joint", "channels")})
    channels = torch.arange(24.0).reshape(1, 1, 4, 6) + 1
    bag, _ = make(spec, channels=channels)
    part = bag.inputs(Window(2, 3, 2, 2), FULL).channels
    assert part.shape == (2, 1, 2, 2) and torch.equal(part[1], channels[0, :, 2:4, 3:5])
    assert not bag.inputs(Window(2, 3, 2, 2), NOTHING).channels.any()


def test_labels_and_broadcast_vectors_are_replaced_by_their_null():
    spec = toy_spec(signals={"acquisition": signal("joint", "class_label"), "place": signal("dropped", "broadcast")})
    vectors, null = Residuals((torch.ones(2, 3, 1, 1),)), Residuals((torch.zeros(2, 3, 1, 1),))
    label, unknown = torch.tensor([1, 2]), torch.tensor([0, 0])
    bag, _ = make(spec, class_label=label, null_label=unknown, broadcast=vectors, null_broadcast=null)
    seen = [bag.inputs(WINDOW, b) for b in (FULL, TEXT, NOTHING)]
    assert [s.class_label is label for s in seen] == [True, True, False] and seen[2].class_label is unknown
    assert [s.broadcast is vectors for s in seen] == [True, False, False] and seen[2].broadcast is null


@pytest.mark.parametrize(
    "given", [{"class_label": torch.tensor([1, 2])}, {"broadcast": Residuals((torch.ones(2, 3, 1, 1),))}]
)
def test_what_guidance_drops_needs_a_null(given):
    with pytest.raises(ModelError, match="has no value for unknown"):
        make(**given)
    route = next(iter(given))
    make(toy_spec(signals={"acquisition": signal("kept", route)}), **given)


WINDOWS = st.builds(Window, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=60, deadline=None)
@given(window=WINDOWS, wrap=st.booleans())
def test_cut_takes_each_cell_from_its_place(window, wrap):
    value = torch.arange(1.0, 31.0).reshape(1, 1, 5, 6)
    part = cut(value, window, wrap=wrap)
    assert part.shape == (1, 1, window.height, window.width)
    for r in range(window.height):
        for c in range(window.width):
            row, col = window.row + r, window.col + c
            col = col % 6 if wrap else col
            inside = 0 <= row < 5 and 0 <= col < 6
            assert part[0, 0, r, c] == (value[0, 0, row, col] if inside else 0)
