"""Inception and CLIP from files: agreement with the reference readers, names in figures, and what is refused."""

import numpy as np
import pytest
import torch
from toys import toy_clip_folder

from gensat.errors import InputError, ModelError
from gensat.metrics.base import extract
from gensat.models.clip import Clip
from gensat.models.extractors import check_extractor, load_extractor
from gensat.models.features import FeatureExtractor
from gensat.models.inception import InceptionV3, read_tensors, short_hash


def pictures(n, size=40, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(n)]


@pytest.fixture(scope="module")
def fid_weights(tmp_path_factory):
    """Random weights of the FID network, under the names of the published file."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("fid") / "inception.pth"
    state = {}

    class Recorder(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, given):
            state.update(self.state_dict())

    blank = path.with_name("blank.pth")
    torch.save({}, blank)
    Recorder("inception-v3", ["2048"], feature_extractor_weights_path=str(blank))
    torch.save(state, path)
    return path


def test_the_fid_network_gives_torchmetrics_features_on_the_same_weights(fid_weights):
    fid = pytest.importorskip("torchmetrics.image.fid")
    ours = InceptionV3.from_file(fid_weights)
    assert ours.name.startswith("inception-v3-fid@299 (") and isinstance(ours, FeatureExtractor)
    reference = fid.NoTrainInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(fid_weights))
    images = pictures(2, seed=1) + pictures(1, 64, seed=2)
    found = extract(ours, images)
    expected = [reference(torch.from_numpy(x).permute(2, 0, 1)[None]) for x in images]
    assert torch.allclose(found.values, torch.cat(expected), atol=1e-4)
    assert found.extractor == ours.name


def test_torchvisions_inception_is_told_apart_and_matches_it(tmp_path):
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    net = inception_v3(weights=None, init_weights=False, aux_logits=False).eval()
    torch.save(net.state_dict(), tmp_path / "inception.pth")
    ours = load_extractor(f"inception:{tmp_path / 'inception.pth'}")
    assert ours.name == f"inception-v3-torchvision@299 ({short_hash(net.state_dict())})"
    x = torch.rand(1, 3, 299, 299)
    net.fc = torch.nn.Identity()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        assert torch.allclose(ours(x), net((x - mean[:, None, None]) / std[:, None, None]), atol=1e-4)


def test_foreign_and_damaged_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="does not hold Inception-v3"):
        InceptionV3.from_file(tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:200])
    with pytest.raises(ModelError, match="cannot be read"):
        read_tensors(tmp_path / "cut.pth")
    torch.save({"net": {"a": torch.zeros(2)}}, tmp_path / "nested.pth")
    with pytest.raises(ModelError, match="more than tensors"):
        read_tensors(tmp_path / "nested.pth")
    torch.save({"code": Danger()}, tmp_path / "danger.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        read_tensors(tmp_path / "danger.pth")


class Danger:
    """Something that an unpickler without a check would rebuild."""


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return toy_clip_folder(tmp_path_factory.mktemp("clip"))


def test_clip_vectors_are_those_of_transformers(clip_folder):
    from transformers import AutoTokenizer, CLIPModel

    ours, reference = Clip.from_folder(clip_folder), CLIPModel.from_pretrained(clip_folder).eval()
    x = torch.rand(2, 3, 32, 32)
    captions = ["a harbor", "an aerial image of a red beach"]
    tokens = AutoTokenizer.from_pretrained(clip_folder)(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = reference(pixel_values=(x - ours.mean) / ours.std, **tokens)
        assert torch.allclose(ours(x), out.image_embeds, atol=1e-5)
        assert torch.allclose(ours.texts(captions), out.text_embeds, atol=1e-5)
    assert torch.allclose(ours.texts(captions, batch_size=1), ours.texts(captions), atol=1e-5)
    assert ours.name.startswith("clip-vit-16-16@32 (") and isinstance(ours, FeatureExtractor)
    features = extract(ours, pictures(3, 50))
    assert torch.allclose(features.values.norm(dim=1), torch.ones(3), atol=1e-5)


def test_a_folder_without_clip_is_refused(tmp_path, clip_folder):
    with pytest.raises(ModelError, match="holds no CLIP model"):
        Clip.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="of type 'bert'"):
        Clip.from_folder(tmp_path)
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    with pytest.raises(ModelError, match="cannot be read"):
        Clip.from_folder(tmp_path)


def test_extractors_are_chosen_by_name(tmp_path):
    assert check_extractor("lite0") == ("lite0", None) and check_extractor("lite2") == ("lite2", None)
    assert check_extractor(f"clip:{tmp_path}") == ("clip", tmp_path)
    for wrong in ("vgg", "clip", "lite0:x", "lite2:x", "inception:"):
        with pytest.raises(InputError, match=r"lite0, lite2, inception:FILE or clip:FOLDER"):
            check_extractor(wrong)
    with pytest.raises(InputError, match="does not exist"):
        check_extractor(f"inception:{tmp_path / 'none.pth'}")
