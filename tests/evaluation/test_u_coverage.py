"""u holds: its error and its interval over samples of generators that are known, in short.

`benchmarks/u_coverage.py` has the tables; bounds here are wide enough for few studies, and narrow
enough that total variation less a perfect generator's (u of .15 read as .10) fails.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from u_coverage import EQUAL, UNEVEN, World, as_known, ends, held, ratios, study

STUDIES = 60


@pytest.mark.parametrize("original", [EQUAL, UNEVEN])
@pytest.mark.parametrize("variation", [0.0, 0.05, 0.15, 0.3])
def test_u_is_right_on_average_and_its_interval_holds(original, variation):
    found = ends(World(150, original, variation, unreadable=0.02), STUDIES, 60)
    value = found[:, 0]
    assert abs(value.mean() - variation) < 0.01 + 3 * value.std() / STUDIES**0.5
    assert held(found, variation).mean() >= 0.83
    if variation == 0.0:
        assert (found[:, 1] > 0).mean() <= 0.1


def test_half_the_width_is_the_scatter():
    found = ends(World(43, EQUAL, 0.15), STUDIES, 60)
    error = (found[:, 2] - found[:, 1]).mean() / 3.92
    assert error == pytest.approx(found[:, 0].std(), rel=0.35)


def test_d_u_is_recovered_from_u_that_is_counted():
    every, plain = [], []
    for seed in range(5):
        made = study(43, EQUAL, 60, seed)
        every.append(ratios(made, made.read))
        plain.append(ratios(made, as_known(made.read)))
    found, uncorrected = np.concatenate(every), np.concatenate(plain)
    assert held(found, 1.0).mean() >= 0.7
    assert np.median(found[:, 0]) == pytest.approx(1.0, abs=0.15)
    assert np.median(uncorrected[:, 0]) < np.median(found[:, 0]) - 0.05
