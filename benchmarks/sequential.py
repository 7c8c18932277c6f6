"""Looks at growing numbers of chains: how often is anything false decided, and after how many?

    python benchmarks/sequential.py [--studies 400] [--first 0] [--json FILE]

Every study is a sweep of `ray_selfloop.simulator` with 12 chains, treatment and control, a network
with two seeds, one generation, judged as a sweep with `decide` is: at 3, 5, 8 and 12 chains. Beside
it the fixed design: 12 chains, one look. Worlds: `nothing`: no effect; false is every word that
says of bias that it changes. `margin`: MD grows by just its margin; false is every word that calls
it smaller, or says that it falls. `twice`: it grows by two margins: how often that is found. Each
with normal, heavy-tailed (t, 4 freedom) and unequal chains, and with a bias at generation 0 well
above and below its noise floor. False decisions must be at most 5 % + Monte-Carlo error.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import replace

from familywise import at_the_margin

from ray_selfloop.claims.cases import cases_of, groups_of
from ray_selfloop.claims.judged import Judged, judge
from ray_selfloop.claims.measured import Looks, Sweep
from ray_selfloop.claims.other_readings import Choice
from ray_selfloop.claims.tested import read
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.verdicts import ACCURACY, CONTRADICTED, RULED_OUT, SUPPORTED, UNDECIDED
from ray_selfloop.simulator import TAILS, Layout, Step, World

LOOKS = (3, 5, 8, 12)
MARGIN = 0.02
FALSE = {
    "nothing": (SUPPORTED, CONTRADICTED, ACCURACY),
    "margin": (RULED_OUT, CONTRADICTED),
    "twice": (RULED_OUT, CONTRADICTED),
}
STARTS = {"above the floor": (0.5, -0.1, -0.4), "below the floor": 0.0}
SCATTER = {"chain": 0.1, "seed": 0.15, "slope": 0.12, "common": 0.05, "wobble": 0.08}


def world(start: str, tails: str) -> World:
    """Digits with scatter between chains and between the classifiers of a chain."""
    return World(Layout.crossed_digits(36), level=2.0, gap=STARTS[start], tails=tails, **SCATTER)


def step(of: World, effect: str) -> Step:
    """What the treatment does."""
    size = {"nothing": 0.0, "margin": MARGIN, "twice": 2 * MARGIN}[effect]
    return at_the_margin(of, size, 1) if size else Step()


def primary(sweep: Sweep, looks: tuple[int, ...]) -> Judged:
    """The primary statement of one sweep, judged at these looks."""
    sweep = replace(sweep, looks=Looks(looks, tuple(range(looks[-1]))))
    (case,) = (c for c in cases_of(sweep.groups, alone=True) if c.primary)
    (found,) = judge(sweep, [case], [read(sweep, case, Choice(sweep.settings.ordered), 1.0)])
    return found


def chains_of(found: Judged) -> int:
    """At how many chains the sweep would have ended."""
    decided = (i for i, look in enumerate(found.looks) if look.verdict != UNDECIDED)
    return LOOKS[next(decided, -1)]


def study(of: World, treated: Step, seed: int) -> tuple[Judged, Judged]:
    """One sweep, by looks and by the fixed design."""
    steps = {"treatment": treated, "no_synthetic": Step()}
    arms = of.arms(steps, LOOKS[-1], 1, seeds=2, seed=seed)
    sweep = Sweep(groups_of(arms), Evaluation(resamples=40, permutations=20, seed=seed))
    return primary(sweep, LOOKS), primary(sweep, LOOKS[-1:])


def row(start: str, tails: str, effect: str, first: int, studies: int) -> dict[str, object]:
    """Rates over studies."""
    of, words, fixed, chains = world(start, tails), Counter[str](), Counter[str](), 0
    treated = step(of, effect)
    for seed in range(first, first + studies):
        found, once = study(of, treated, seed)
        words[found.verdict] += 1
        fixed[once.verdict] += 1
        chains += chains_of(found)

    def share(counted: Counter[str], which: tuple[str, ...]) -> float:
        return sum(counted[word] for word in which) / studies

    right = {"nothing": (RULED_OUT,), "margin": (SUPPORTED,), "twice": (SUPPORTED,)}[effect]
    return {
        "bias at 0": start, "chains": tails, "effect": effect,
        "false": share(words, FALSE[effect]), "fixed false": share(fixed, FALSE[effect]),
        "right": share(words, right), "fixed right": share(fixed, right),
        "mean chains": chains / studies,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--json", help="file for the rows")
    options = parser.parse_args()
    print(f"{'':46}{'false':>8}{'fixed':>8}{'right':>8}{'fixed':>8}{'chains':>8}")
    rows = []
    for start in STARTS:
        for tails in TAILS:
            for effect in FALSE:
                name = f"{start}, {tails}, {effect}"
                if options.only not in name:
                    continue
                began = time.monotonic()
                found = row(start, tails, effect, options.first, options.studies)
                rows.append(found)
                numbers = [found[n] for n in ("false", "fixed false", "right", "fixed right")]
                told = "".join(f"{value:8.3f}" for value in numbers)
                took = time.monotonic() - began
                print(f"{name:46}{told}{found['mean chains']:8.2f}   {took:.0f} s", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
