"""What a sweep asks for against what a cluster has: one line instead of a wait without end."""

import pytest

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed.cluster import Cluster, check_gpus
from ray_selfloop.errors import ResourceError


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gpus_per_trial": 3}, "resources.gpus_per_trial: 3 GPU asked for, the cluster has 2"),
        (
            {"gpus_per_generator": 2.5},
            "resources.gpus_per_generator: 2.5 GPU asked for, the cluster has 2",
        ),
        (
            {"gpus_per_generator": 1, "sampling_workers": 3},
            "resources.sampling_workers: 3 pairs of 1 GPU each asked for, the cluster has 2",
        ),
    ],
)
def test_more_gpus_than_there_are_end_in_one_line(asked: dict[str, float], message: str) -> None:
    with pytest.raises(ResourceError) as error:
        check_gpus(Resources.model_validate(asked), 2.0)
    assert str(error.value) == message


def test_what_fits_is_not_refused() -> None:
    check_gpus(Resources(gpus_per_trial=0.5, gpus_per_generator=1, sampling_workers=2), 2.0)
    check_gpus(Resources(sampling_workers=9), 0.0)


def test_networks_get_a_trials_share_and_generators_their_own() -> None:
    cluster = Cluster(4, {"cpu": 0.0, "slot": 1.0, "gpu": 0.25}, 1.0)
    assert {cluster.gpus(kind) for kind in ("generator", "latents", "samples")} == {1.0}
    assert {cluster.gpus(kind) for kind in ("probe", "reference", "kept", "scorer")} == {0.25}
    assert {cluster.gpus(kind) for kind in ("dataset", "fairness", "dynamics", "claims")} == {0.0}
