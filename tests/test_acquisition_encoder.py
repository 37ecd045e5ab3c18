"""The acquisition encoder: scaling, precision, unknowns each on their own, sensors, and its contract as a model."""

import json
import math

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline

from gensat.conditioning.acquisition import SCALAR_NAMES, SCALARS, AcquisitionEncoder, acquisition_arrays
from gensat.errors import InputError
from gensat.types import Acquisition

SENSORS = ["landsat-8", "sentinel-2"]
FULL = Acquisition(gsd=0.5, date="2017-08-31", cloud_cover=0.2, sensor="sentinel-2")
ACQUISITIONS = [
    FULL,
    Acquisition(),
    Acquisition(date="2017-08-31", cloud_cover=0.2, sensor="sentinel-2"),
    Acquisition(0.5, "--08-31", 0.2, "sentinel-2"),
    Acquisition(0.5, "2017", 0.2, "sentinel-2"),
    Acquisition(0.5, "2017-08", 0.2, "sentinel-2"),
    Acquisition(0.5, "2017-08-31", None, "sentinel-2"),
    Acquisition(0.5, "2017-08-31", 0.2),
    Acquisition(0.5, "2017-08-31", 0.2, "landsat-8"),
    Acquisition(0.1, "2017-08-31", 0.2, "sentinel-2"),
    Acquisition(30, "2017-08-31", 0.2, "sentinel-2"),
    Acquisition(0.5, "2016-08-31", 0.2, "sentinel-2"),
    Acquisition(0.5, "2017-08-30", 0.2, "sentinel-2"),
    Acquisition(0.5, "2017-08-31", 0, "sentinel-2"),
]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return AcquisitionEncoder(out_dim=24, num_channels=32, hidden_dim=16, sensors=SENSORS).eval()


def captured_sinusoids(encoder, acquisitions):
    """What the first MLP (gsd) is given."""
    waves = []
    hook = encoder.scalar_embedding[0].register_forward_pre_hook(lambda _, inputs: waves.append(inputs[0]))
    encoder(*encoder.arrays(acquisitions))
    hook.remove()
    return waves[0]


@torch.no_grad()
def test_every_field_and_its_absence_change_the_vector(encoder):
    out = encoder(*encoder.arrays(ACQUISITIONS))
    assert out.shape == (len(ACQUISITIONS), 24)
    assert torch.pdist(out).min() > 1e-3


@torch.no_grad()
def test_vector_is_the_sum_of_its_parts(encoder):
    """So one known scalar moves the vector by the same amount whatever else is known."""
    gsd, date, both, none = encoder(
        *encoder.arrays(
            [Acquisition(gsd=0.5), Acquisition(date="2017"), Acquisition(gsd=0.5, date="2017"), Acquisition()]
        )
    )
    torch.testing.assert_close(both - date, gsd - none)
    torch.testing.assert_close(none, encoder.null.sum(0) + encoder.sensor_embedding.weight[0])


@pytest.mark.parametrize(
    ("name", "value", "scaled"),
    [
        ("gsd", 0.1, 0), ("gsd", 30.0, 1000), ("gsd", math.sqrt(3), 500), ("year", 1980, 0), ("year", 2016, 300),
        ("month", 12, 1000), ("month", 3, 250), ("day", 31, 1000), ("cloud_cover", 0.4, 400),
    ],
)  # fmt: skip
@torch.no_grad()
def test_scalars_reach_the_time_range(name, value, scaled):
    """The sinusoid of a scalar is that of a diffusion time: [cos | sin], frequencies 10000^(-i / half)."""
    encoder = AcquisitionEncoder(out_dim=8, num_channels=16, scalars=[s for s in SCALARS if s["name"] == name])
    waves = []
    encoder.scalar_embedding[0].register_forward_pre_hook(lambda _, inputs: waves.append(inputs[0]))
    encoder(torch.tensor([[float(value)]]), torch.tensor([[True]]), torch.tensor([0]))
    phase = scaled * 10000 ** (-torch.arange(8, dtype=torch.float64) / 8)
    torch.testing.assert_close(waves[0][0].double(), torch.cat([phase.cos(), phase.sin()]), atol=1e-3, rtol=0)


@torch.no_grad()
def test_half_precision_weights_do_not_blur_the_values(encoder):
    acquisitions = [Acquisition(gsd=0.41145), Acquisition(gsd=0.4113)]
    want = captured_sinusoids(encoder, acquisitions)
    half = captured_sinusoids(encoder.half(), acquisitions)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), want, atol=1e-3, rtol=0)
    assert (half[0] - half[1]).abs().max() > 0.03
    assert torch.tensor([0.41145, 0.4113]).half().unique().numel() == 1  # what would be left of them in half precision


def test_values_in_half_precision_are_refused(encoder):
    values, known, sensor = encoder.arrays([FULL])
    with pytest.raises(InputError, match="float16; give float32"):
        encoder(values.half(), known, sensor)


@torch.no_grad()
def test_encoder_does_not_depend_on_the_batch(encoder):
    together = encoder(*encoder.arrays(ACQUISITIONS))
    alone = torch.cat([encoder(*encoder.arrays([acquisition])) for acquisition in ACQUISITIONS])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert torch.equal(together, encoder(*encoder.arrays(ACQUISITIONS)))


def test_unknown_values_never_reach_output_or_gradient(encoder):
    values, known, sensor = encoder.arrays([FULL, Acquisition(), Acquisition(sensor="landsat-8")])
    values[~known] = torch.nan
    out = encoder(values, known, sensor)
    torch.testing.assert_close(out, encoder(values.nan_to_num(-7.0), known, sensor))
    out.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


@torch.no_grad()
def test_encoder_survives_saving_bit_for_bit(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    again = AcquisitionEncoder.from_pretrained(tmp_path)
    assert again.scalar_names == SCALAR_NAMES
    assert torch.equal(again(*again.arrays(ACQUISITIONS)), encoder(*encoder.arrays(ACQUISITIONS)))


@torch.no_grad()
def test_order_of_the_scalars_is_the_encoders_own(tmp_path):
    scalars = [dict(SCALARS[4]), {"name": "gsd", "low": 1, "high": 11, "log": False}]
    encoder = AcquisitionEncoder(out_dim=8, num_channels=16, scalars=scalars)
    encoder.save_pretrained(tmp_path)
    encoder = AcquisitionEncoder.from_pretrained(tmp_path)
    values, known, _ = encoder.arrays([Acquisition(gsd=6, cloud_cover=0.25), Acquisition(gsd=6)])
    assert values.tolist() == [[0.25, 6.0], [0.0, 6.0]] and known.tolist() == [[True, True], [False, True]]
    with pytest.raises(InputError, match="5 acquisition values were given; this encoder takes cloud_cover, gsd"):
        encoder(*acquisition_arrays([FULL], SENSORS))


def test_arrays_hold_raw_values_and_what_is_known():
    values, known, sensor = acquisition_arrays([FULL, Acquisition(date="--08", cloud_cover=0)], SENSORS)
    torch.testing.assert_close(values, torch.tensor([[0.5, 2017, 8, 31, 0.2], [0, 0, 8, 0, 0]]))
    assert known.tolist() == [[True] * 5, [False, False, True, False, True]]
    assert sensor.tolist() == [2, 0]
    assert [part.shape[0] for part in acquisition_arrays([], SENSORS)] == [0, 0, 0]


def test_unlisted_sensor_names_the_known_ones():
    with pytest.raises(InputError, match="sensor 'spot-7'; use one of landsat-8, sentinel-2, or leave"):
        acquisition_arrays([Acquisition(sensor="SPOT-7")], SENSORS)
    with pytest.raises(InputError, match="sensor 'spot-7'; leave the sensor out"):
        acquisition_arrays([Acquisition(sensor="spot-7")], [])


def test_zero_init_starts_as_nothing_and_can_learn():
    encoder = AcquisitionEncoder(out_dim=8, num_channels=16, sensors=SENSORS, zero_init=True)
    out = encoder(*encoder.arrays([FULL, Acquisition()]))
    assert not out.any()
    out.sum().backward()
    assert all(mlp.linear_2.weight.grad.any() for mlp in encoder.scalar_embedding)
    assert encoder.null.grad.all()


@pytest.mark.parametrize(
    ("scalar", "message"),
    [
        ({"name": "altitude", "low": 0, "high": 1, "log": False}, "no scalar is called 'altitude'; use some of gsd"),
        ({"name": "gsd", "low": 1, "high": 1, "log": False}, "range of gsd is 1 to 1; give low < high"),
        ({"name": "gsd", "low": 0, "high": 1, "log": True}, "low > 0 on a logarithmic scale"),
    ],
)
def test_bad_ranges_are_refused(scalar, message):
    with pytest.raises(InputError, match=message):
        AcquisitionEncoder(scalars=[scalar])


class AcquisitionPipeline(DiffusionPipeline):
    def __init__(self, acquisition_encoder):
        super().__init__()
        self.register_modules(acquisition_encoder=acquisition_encoder)


@torch.no_grad()
def test_encoder_comes_back_inside_a_saved_pipeline(encoder, tmp_path):
    AcquisitionPipeline(encoder).save_pretrained(tmp_path)
    module, name = json.loads((tmp_path / "model_index.json").read_text())["acquisition_encoder"]
    assert (module, name) == ("gensat.conditioning.acquisition", "AcquisitionEncoder")
    # diffusers takes a component for its own when the folder above its module has the name of one of its pipelines
    assert not hasattr(diffusers.pipelines, module.split(".")[-2])
    again = AcquisitionPipeline.from_pretrained(tmp_path).acquisition_encoder
    assert torch.equal(again(*again.arrays(ACQUISITIONS)), encoder(*encoder.arrays(ACQUISITIONS)))
