"""Published metadata vectors: golden values, every field in its place, and the way back."""

import json

import numpy as np
import pytest
import torch

from gensat.conditioning.metadata import SCHEMAS, MetadataField, MetadataSchema
from gensat.errors import InputError
from gensat.types import Acquisition, Place

HOUSTON = Place(-95.36, 29.76)
STORM = Acquisition(gsd=0.5, date="2017-08-31", cloud_cover=0.25)
# the example vector of DiffusionSat's notebook, printed with two decimals
DIFFUSIONSAT = [925.88, 345.21, 411.45, 0, 308.33, 166.67, 354.84]


def test_diffusionsat_vector_equals_the_published_example():
    vector = SCHEMAS["diffusionsat"].vector(
        Place(153.317, -27.862), Acquisition(gsd=0.41145, date="2017-02-11", cloud_cover=0)
    )
    assert vector.dtype == torch.float64
    np.testing.assert_allclose(vector, DIFFUSIONSAT, atol=0.006)


def test_diffusionsat_example_reads_back():
    values = SCHEMAS["diffusionsat"].invert(torch.tensor(DIFFUSIONSAT))
    want = {"lon": 153.317, "lat": -27.862, "gsd": 0.41145, "cloud_cover": 0, "year": 2017, "month": 2, "day": 11}
    assert list(values) == list(want)
    np.testing.assert_allclose(list(values.values()), list(want.values()), atol=2e-3)


def test_controlcity_has_no_offset():
    vector = SCHEMAS["controlcity"].vector(Place(-90, -45), Acquisition())
    assert vector.tolist() == [-250.0, -250.0]


def test_crs_diff_is_min_max_with_latitude_before_longitude():
    vector = SCHEMAS["crs-diff"].vector(Place(90, -45), Acquisition(2.5, "2002-06-30", 0.3))
    want = [500, 500, 30 / 31 * 1000, 500, 300, 250, 750]
    np.testing.assert_allclose(vector, want)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_its_own_inverse(name):
    values = SCHEMAS[name].invert(SCHEMAS[name].vector(HOUSTON, STORM))
    known = {"lon": -95.36, "lat": 29.76, "gsd": 0.5, "cloud_cover": 0.25, "year": 2017, "month": 8, "day": 31}
    assert values == pytest.approx({field: known[field] for field in SCHEMAS[name].names}, abs=1e-9)


def test_gsd_is_scaled_when_the_picture_is_resized():
    schema = SCHEMAS["diffusionsat"]
    plain, half_size = schema.vector(HOUSTON, STORM), schema.vector(HOUSTON, STORM, gsd_ratio=1024 / 512)
    assert half_size[2] == 2 * plain[2] == 1000
    assert torch.equal(half_size[[0, 1, 3, 4, 5, 6]], plain[[0, 1, 3, 4, 5, 6]])
    with pytest.raises(InputError, match="gsd ratio is 0"):
        schema.vector(HOUSTON, STORM, gsd_ratio=0)


def test_gsd_is_not_capped():
    assert SCHEMAS["diffusionsat"].vector(None, Acquisition(gsd=10))[2] == 10_000


def test_each_unknown_field_is_null_on_its_own():
    schema = SCHEMAS["diffusionsat"]
    full = schema.vector(HOUSTON, STORM)
    assert not schema.vector(None, Acquisition()).any()
    for place, acquisition, unknown in [
        (None, STORM, [0, 1]),
        (HOUSTON, Acquisition(None, "2017-08-31", 0.25), [2]),
        (HOUSTON, Acquisition(0.5, "2017-08-31"), [3]),
        (HOUSTON, Acquisition(0.5, "2017", 0.25), [5, 6]),
        (HOUSTON, Acquisition(0.5, "--08-31", 0.25), [4]),
    ]:
        want = full.clone()
        want[unknown] = 0
        assert torch.equal(schema.vector(place, acquisition), want)


def test_a_model_never_trained_without_a_field_asks_for_it():
    with pytest.raises(InputError, match="controlcity model was never trained without lon, lat; give"):
        SCHEMAS["controlcity"].vector(None, STORM)
    with pytest.raises(InputError, match="crs-diff model was never trained without month, day; give"):
        SCHEMAS["crs-diff"].vector(HOUSTON, Acquisition(0.5, "2017", 0.1))


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_goes_through_json(name):
    again = MetadataSchema.from_dict(json.loads(json.dumps(SCHEMAS[name].to_dict())))
    assert again == SCHEMAS[name]


def test_bad_schemas_and_vectors_are_refused():
    with pytest.raises(InputError, match="no metadata is called 'altitude'; use one of lon"):
        MetadataField("altitude", "metre")
    with pytest.raises(InputError, match="cloud_cover has no unit 'metre'; use fraction or percent"):
        MetadataField("cloud_cover", "metre")
    with pytest.raises(InputError, match="divisor of lon is 0"):
        MetadataField("lon", "degree", divisor=0)
    with pytest.raises(InputError, match="has 2 entries; diffusionsat takes 7"):
        SCHEMAS["diffusionsat"].invert(torch.zeros(2))
    with pytest.raises(InputError, match="cannot be read"):
        MetadataSchema.from_dict({"name": "mine", "fields": [{"name": "lon", "units": "degree"}]})
    with pytest.raises(InputError, match="cannot be read"):
        MetadataSchema.from_dict({"name": "mine"})
