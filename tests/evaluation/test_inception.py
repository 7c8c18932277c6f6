"""Inception features and their distances against torch-fidelity's own, and which file is which."""

import hashlib
import io
import pickle

import numpy as np
import pytest
import torch
import worlds
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.errors import DataError
from ray_selfloop.evaluation import inception
from ray_selfloop.evaluation.frechet import kernel_distance
from ray_selfloop.evaluation.generator_rows import Generated, Reference, generator_rows
from ray_selfloop.evaluation.generator_rows import real_features as real
from ray_selfloop.evaluation.metrics import describe
from ray_selfloop.graph import Stage
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

CPU = torch.device("cpu")
N = 8


class Untrained(FeatureExtractorInceptionV3):
    """torch-fidelity's network with the weights that its layers drew."""

    def load_state_dict(self, state_dict, strict=True, assign=False):
        return None


class Pictures(Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


def save(state, path):
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of the right form: random, of a scale that keeps activations alive."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Untrained("made", ["2048"], empty)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
    return save(network.state_dict(), tmp_path_factory.mktemp("inception") / "made.pth")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [
        np.ascontiguousarray(rng.integers(0, top, size=(N, 3, 28, 28)), np.uint8)
        for top in (256, 200)
    ]


@pytest.fixture(scope="module")
def network(weights):
    return inception.Inception(weights, inception.identity(weights), CPU)


@pytest.fixture(scope="module")
def features(network, pictures):
    return [network.features(images) for images in pictures]


def theirs(weights, pictures, **metrics):
    return calculate_metrics(
        input1=Pictures(pictures[1]),
        input2=Pictures(pictures[0]),
        feature_extractor_weights_path=weights,
        cuda=False,
        cache=False,
        verbose=False,
        batch_size=N,
        save_cpu_ram=True,
        **metrics,
    )


@pytest.mark.slow
def test_kid_equals_torch_fidelity_on_the_same_images_and_weights(weights, pictures, features):
    found = theirs(weights, pictures, kid=True, kid_subsets=1, kid_subset_size=N)
    expected = found["kernel_inception_distance_mean"]
    ours = kernel_distance(*(x.astype(np.float64) for x in features))
    assert abs(expected) > 1e-3
    assert ours == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow  # its eigenvalues of a 2048 x 2048 product
def test_frechet_equals_torch_fidelity_on_the_same_images_and_weights(weights, pictures, features):
    expected = theirs(weights, pictures, fid=True)["frechet_inception_distance"]
    ours = worlds.frechet_distance(*(x.astype(np.float64) for x in features))
    assert expected > 1e-3
    assert ours == pytest.approx(expected, rel=1e-3)


def test_features_do_not_depend_on_how_many_images_are_asked_for_together(
    network, pictures, features
):
    np.testing.assert_array_equal(network.features(pictures[0][:3]), features[0][:3])
    assert features[0].shape == (N, inception.FEATURES)
    assert network.features(pictures[0][:0]).shape == (0, inception.FEATURES)


def test_making_the_network_draws_from_no_global_stream(weights):
    before = torch.random.get_rng_state()
    inception.check(weights)
    assert torch.equal(before, torch.random.get_rng_state())


def test_only_the_published_file_is_called_inception(weights):
    sha256 = inception.identity(weights)
    with open(weights, "rb") as file:
        assert sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    assert inception.name_of(sha256) == f"inception-{sha256[:8]}"
    assert sha256[:8] in inception.absence(sha256)
    assert inception.name_of(inception.PUBLISHED) == "inception"
    assert inception.absence(inception.PUBLISHED) == ""
    assert "evaluation.inception is null" in inception.absence(None)
    assert inception.identity(None) is None
    inception.check(None)


@pytest.mark.parametrize("name", ["inception", "inception-0123abcd"])
def test_fid_and_kid_are_rows_of_the_published_weights_alone(name):
    settings, rng = Evaluation(samples=40, resamples=20), np.random.default_rng(0)
    sets = {n: rng.standard_normal((60, 4)) for n in ("pixels8", name)}
    reference = Reference({n: real(x, x[:20], settings) for n, x in sets.items()}, None, ("c",), ())
    drawn = Generated({n: x[:40] + 0.1 for n, x in sets.items()}, np.zeros(40, int), None, None)
    metrics = set(generator_rows(1, {"generated": drawn}, reference, settings)["metric"])
    assert ({"fid", "kid"} <= metrics) == (name == "inception")
    assert (f"frechet_distance/{name}" in metrics) == (name != "inception")
    assert (f"kernel_distance/{name}" in metrics) == (name != "inception")
    assert f"precision/{name}" in metrics
    assert "published weights" in describe("fid").definition


class Hostile:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_a_file_that_is_no_checkpoint_of_the_network_is_one_clear_error(tmp_path, weights, capsys):
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps({"a": Hostile()}, 2))
    some = torch.load(weights, weights_only=True)
    some.pop("fc.weight")
    cases = {
        str(tmp_path / "nowhere.pth"): "cannot be read",
        str(tmp_path): "cannot be read",
        str(tmp_path / "text.pth"): "no file of weights",
        str(tmp_path / "hostile.pth"): "no file of weights",
        save([1.0], tmp_path / "list.pth"): "no weights by name",
        save(some, tmp_path / "part.pth"): "fc.weight",
        save({"x": torch.ones(2)}, tmp_path / "other.pth"): "torch-fidelity's Inception-V3",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            inception.check(path)
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)
    assert "never" not in capsys.readouterr().out


def test_a_download_that_fails_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for function in (inception.check, inception.identity):
        with pytest.raises(DataError, match=r"cannot be downloaded.*give its path"):
            function("download")
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.slow
def test_the_real_side_holds_its_features_under_the_name_of_the_file(weights, network, tmp_path):
    store, data = worlds.published_pictures(Store(tmp_path))
    sha256 = inception.identity(weights)
    config = {"evaluation": {"neighbours": 3}, "inception": sha256, "threads": 1}
    stage = Stage("reference", 1, config, {"dataset": data.key}, {"inception": weights})
    summary = execute(stage, store).summary
    name = f"inception-{sha256[:8]}"
    assert summary["features"] == ["pixels8", name]
    assert summary["inception"] == sha256
    kept = Inputs(Stage("reader", 0, {}, {"self": stage.key, "dataset": data.key}), store)
    expected = network.features(kept.split("held_out").images)
    found = kept.array("self", f"{name}_held_out")
    np.testing.assert_array_equal(found[found[:, 0].argsort()], expected[expected[:, 0].argsort()])


def test_another_file_than_the_planned_one_is_refused(weights):
    with pytest.raises(DataError, match="the same file on every node"):
        inception.Inception(weights, "0" * 64, CPU)
