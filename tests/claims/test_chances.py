"""How soon a sweep with `decide` is decided: against the test itself, sums, and what plan says."""

import re
from dataclasses import replace

import numpy as np
import pytest

from ray_selfloop.__main__ import main
from ray_selfloop.claims import chances, power
from ray_selfloop.config.datasets.coloured import ColorizedMnist
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference import sequential
from ray_selfloop.inference.chains import effect_of_chains

LOOKS, MARGIN, SD = (3, 5, 8), 0.02, 0.02
WORDS = ("grows", "falls", "excluded")
NOISE = power.Noise(0.0004, 0.0003, 0.0002)
COSTS = power.Costs(2.0, 1.0, 0.5, known=True)


def found(size, sd=SD, looks=LOOKS, alpha=0.05):
    return sequential.chances(size, sd, MARGIN, looks, alpha)


def planned(together=1, **others):
    size = power.known_size(ColorizedMnist())
    return power.Setting(size, 0.9, power.Design(3, 2, 2), together, looks=LOOKS, **others)


def decided(values, levels):
    """The look that decides a sweep, and as what, by the p values that verdicts rest on."""
    for k, (m, level) in enumerate(zip(LOOKS, levels, strict=True)):
        seen = effect_of_chains(values[:m], 0.95)
        ps = (seen.p_above(0.0), seen.p_below(0.0), seen.p_short_of(MARGIN))
        for word, p in zip(WORDS, ps, strict=True):
            if p <= level:
                return k, word
    return len(LOOKS), "open"


@pytest.mark.parametrize("size", [-0.03, 0.0, MARGIN, 2 * MARGIN])
def test_chances_are_those_of_the_test_itself(size):
    rng, n = np.random.default_rng(11), 800
    levels = sequential.levels(LOOKS, 0.05)
    each = [decided(row, levels) for row in size + SD * rng.standard_normal((n, LOOKS[-1]))]
    told = found(size)
    for k, share in enumerate(told.decided):
        exact = np.mean([at <= k for at, _ in each])
        assert share == pytest.approx(exact, abs=4 * 0.5 / n**0.5)
    for word in WORDS:
        exact = np.mean([said == word for _, said in each])
        assert getattr(told, word) == pytest.approx(exact, abs=4 * 0.5 / n**0.5)
    chains = np.mean([LOOKS[min(at, len(LOOKS) - 1)] for at, _ in each])
    assert told.chains() == pytest.approx(chains, abs=4 * 2.5 / n**0.5)


@pytest.mark.parametrize("size", [0.0, MARGIN, 2 * MARGIN])
def test_what_is_decided_adds_up_to_the_last_look(size):
    told = found(size)
    assert told.grows + told.falls + told.excluded == pytest.approx(told.decided[-1])
    assert list(told.decided) == sorted(told.decided)
    assert LOOKS[0] <= told.chains() <= told.chains(2) <= told.chains(5) <= LOOKS[-1]


def test_growth_is_said_of_no_effect_in_few_sweeps():
    """Two-sided 5 % over all looks: half of it on either side; so for the margin excluded."""
    assert found(0.0).grows < 0.03
    assert found(MARGIN).excluded < 0.03


def test_chances_are_the_same_each_time_and_without_noise_certain():
    assert found(MARGIN) == found(MARGIN)
    sure = found(MARGIN, sd=0.0)
    assert (sure.decided, sure.grows, sure.chains()) == ((1.0, 1.0, 1.0), 1.0, 3.0)
    assert found(0.0, sd=0.0).excluded == 1.0


def test_independent_settings_take_as_long_as_the_slowest():
    told = sequential.Chances((3, 5, 8), (0.5, 0.8, 1.0), 1.0, 0.0, 0.0)
    assert told.chains() == pytest.approx(3 + 2 * 0.5 + 3 * 0.2)
    assert told.chains(2) == pytest.approx(3 + 2 * 0.75 + 3 * 0.36)


def test_rows_are_of_one_chains_noise_at_the_level_of_all_statements():
    """The chains of the look that the plan shows do not matter."""
    sd = NOISE.error(power.Design(1, 2, 2))
    alpha = power.level_each(2, Evaluation())
    rows = chances.expected(NOISE, MARGIN, planned(2), Evaluation())
    assert rows == {times * MARGIN: found(times * MARGIN, sd, alpha=alpha) for times in (0, 1, 2)}
    later = replace(planned(2), design=power.Design(8, 2, 2))
    assert chances.expected(NOISE, MARGIN, later, Evaluation()) == rows


def test_the_table_has_chances_chains_and_their_cost():
    settings = Evaluation()
    _, head, *rows, more = chances.sentences("md", NOISE, planned(), settings, COSTS)
    assert re.split(r"  +", head.strip())[:4] == ["growth", "by 3 chains", "by 5 chains",
                                                  "by 8 chains"]  # fmt: skip
    told = chances.expected(NOISE, settings.claims.gap_margin, planned(), settings)
    for row, (size, of) in zip(rows, told.items(), strict=True):
        cells = re.split(r"  +", row.strip())
        assert cells[0] == f"{size:g}"
        assert cells[1:4] == [f"{100 * share:.0f} %" for share in of.decided]
        assert cells[-2:] == [f"{of.chains():.1f}", f"{2 + of.chains() * (1 + 2 * 0.5):.3g}"]
    assert more.startswith("a gap near its noise floor needs more chains")
    assert "settings are independent" not in more


def test_of_several_settings_is_said_when_all_are_decided():
    *_, more = chances.sentences("md", NOISE, planned(3), Evaluation(), COSTS)
    told = chances.expected(NOISE, Evaluation().claims.gap_margin, planned(3), Evaluation())
    means = ", ".join(f"{of.chains(3):.1f}" for of in told.values())
    assert f"ends when all are decided: 3 like this one after {means} chains" in more


def test_costs_that_are_not_known_are_not_told():
    free = power.Costs(0.0, 1.0, 1.0, known=False)
    _, _, *rows, _ = chances.sentences("md", NOISE, planned(), Evaluation(), free)
    assert all(row.endswith("not known") for row in rows)


def test_a_plan_with_looks_tells_its_chances_and_one_without_does_not(tmp_path, capsys):
    words = ["plan", "regimes_small", f"storage={tmp_path}"]
    assert main([*words, "decide={}"]) == 0
    said = capsys.readouterr().out
    assert "by 3 chains  by 5 chains  by 8 chains  by 12 chains" in said
    assert said.count("until it is decided, by the true growth of bias in md") >= 1
    assert "  at this look\n" in said
    assert "this sweep\n" not in said
    assert "chains needed to find the smallest effect of interest, with one look:" in said
    assert main([*words, "decide=null"]) == 0
    alone = capsys.readouterr().out
    assert "  this sweep\n" in alone
    assert "look" not in alone
    assert main([*words]) == 0
    assert capsys.readouterr().out == alone
