"""The Frechet distance of 2,048-d features, beside torch-fidelity's and clean-fid's: time, value.

From features to the number, both sets' moments included, on one thread. Random features with the
spectrum of Inception's: a few strong directions, many weak ones. torch-fidelity and clean-fid are
no dependencies of this project: one that is not installed is said and left out.

    pip install torch-fidelity clean-fid
    python benchmarks/frechet.py [--features 5000] [--dimensions 2048] [--json FILE]
"""

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation.frechet import frechet_between, moments

Floats = NDArray[np.float64]
Distance = Callable[[Floats, Floats], float]


def features(n: int, d: int, seed: int) -> Floats:
    """``(n, d)``, correlated, with eigenvalues that fall as 1 / rank."""
    mixing = np.random.default_rng(0).normal(0, 1 / np.sqrt(d), (d, d))
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(np.arange(1, d + 1))
    return (rng.normal(0, 1, (n, d)) * scale) @ mixing + 0.01 * seed


def ours(first: Floats, second: Floats) -> float:
    return frechet_between(moments(first), moments(second))


def torch_fidelity() -> Distance:
    """From the package of that name; raises ImportError."""
    import torch
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    def distance(first: Floats, second: Floats) -> float:
        found = [fid_features_to_statistics(torch.from_numpy(x)) for x in (first, second)]
        return float(fid_statistics_to_metric(*found, verbose=False)[KEY_METRIC_FID])

    return distance


def clean_fid() -> Distance:
    """From the package of that name; raises ImportError."""
    from cleanfid.fid import frechet_distance

    def distance(first: Floats, second: Floats) -> float:
        found = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (first, second)]
        return float(frechet_distance(*found[0], *found[1]))

    return distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, default=5_000)
    parser.add_argument("--dimensions", type=int, default=2_048)
    parser.add_argument("--json", help="write the rows to this file too")
    options = parser.parse_args()
    sets = [features(options.features, options.dimensions, seed) for seed in (1, 2)]
    rows: list[dict[str, float | str]] = []

    def add(name: str, distance: Distance) -> None:
        begun = time.process_time()
        value = distance(*sets)
        rows.append({"of": name, "cpu_s": time.process_time() - begun, "value": value})

    add("this program", ours)
    for make in (torch_fidelity, clean_fid):
        try:
            add(make.__name__, make())
        except (ImportError, TypeError) as missing:
            print(f"{make.__name__}: not run ({missing})")
    print(f"{'':16}{'CPU s':>8}{'times ours':>12}{'value':>16}{'relative difference':>22}")
    for row in rows:
        row["ratio"] = float(row["cpu_s"]) / float(rows[0]["cpu_s"])
        row["difference"] = abs(float(row["value"]) / float(rows[0]["value"]) - 1)
        print(f"{row['of']:16}{row['cpu_s']:8.1f}{row['ratio']:12.2f}{row['value']:16.8f}"
              f"{row['difference']:22.1e}")  # fmt: skip
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
