"""How often is anything false said where nothing happens? From predictions to verdicts.

    python benchmarks/familywise.py [--layout mnist|cifar] [--world nothing|margin] [--studies 400]

Every study is a whole sweep of `ray_selfloop.simulator`: 2 starts x 5 networks x 3 chains x 3
generations, treatment and control, nothing but scatter between chains, seeds and images, judged by
`dynamics.claims` as a sweep is. `nothing`: no effect; false is every word that says of a change
that it is there ('supported', 'contradicted' or 'explained by accuracy' of a change, 'contradicted'
of 'does not change'). `margin`: MD grows by just its margin in every network; false is every word
that calls it smaller ('ruled out' of 'increases', 'supported' of 'does not change') or that says
it falls. Must be at most 5 % + Monte-Carlo error for the primary statements and for each section's
family.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ray_selfloop.claims.contrasts import LEVEL
from ray_selfloop.claims.verdicts import Verdict, claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.verdicts import (
    ACCURACY,
    CONTRADICTED,
    DIFFERS,
    DOWN,
    NOT_UP,
    RULED_OUT,
    SAME,
    SUPPORTED,
    UP,
)
from ray_selfloop.simulator import Layout, Step, World

NETWORKS = ("lenet", "alexnet", "vgg19", "resnet50", "mobilenet_v3_small")
GENERATIONS = 3
CHANGES = (UP, DOWN, DIFFERS)


def starts(layout: str) -> list[World]:
    """The two settings of a sweep: on the same test images."""
    scatter = {"chain": 0.1, "seed": 0.1, "slope": 0.04, "common": 0.04, "wobble": 0.03}
    if layout == "mnist":
        return [
            World(Layout.crossed_digits(1000), level=3.5, gap=gap, **scatter,
                  about={"group": f"initialization={start}", "initialization": start})
            for start, gap in (("unbiased", 0.0), ("biased", (0.5, -0.1, -0.4)))
        ]  # fmt: skip
    gap = np.random.default_rng(7).normal(0, 0.5, (20, 5))
    gap -= gap.mean(axis=1, keepdims=True)
    about = {"dataset": "cifar20_100", "initialization": ""}
    return [
        World(Layout.cifar(), level=level, gap=gap, **scatter,
              about={**about, "group": f"pretrained={start}", "pretrained": start})
        for start, level in ((False, 0.6), (True, 1.6))
    ]  # fmt: skip


def at_the_margin(world: World, margin: float, generations: int = GENERATIONS) -> Step:
    """The step that makes the mean true MD of the treatment grow by ``margin`` over the control's,
    scatter between chains included."""
    pattern = np.broadcast_to(np.linspace(1, -1, world.shape[1]), world.shape)

    def growth(size: float) -> float:
        steps = {"t": Step(cells=size * pattern), "c": Step()}
        found = world.logits(np.random.default_rng(1), steps, (400, 1, generations))
        rates = {arm: world.rates(z[:, 0, -1]) for arm, z in found.items()}
        pooled = {a: r.mean(axis=1, keepdims=True) if world.layout.pooled else r
                  for a, r in rates.items()}  # fmt: skip
        md = {arm: np.ptp(r, axis=-1).mean() for arm, r in pooled.items()}
        return float(md["t"] - md["c"])

    low, high = 0.0, 1.0
    for _ in range(25):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if growth(middle) < margin else (low, middle)
    return Step(cells=high * pattern)


def study(worlds: list[World], steps: Mapping[str, Step], seed: int) -> tuple[Verdict, ...]:
    """One sweep's verdicts."""
    rng = np.random.default_rng([seed, 1])
    arms = [
        arm
        for world, step in zip(worlds, steps.values(), strict=True)
        for arm in world.arms({"treatment": step, "no_synthetic": Step()}, 3, GENERATIONS,
                              NETWORKS, seed=rng, images=seed)
    ]  # fmt: skip
    return claims(arms, Evaluation(resamples=60, permutations=20, seed=seed)).claims


def false(claim: Verdict, world: str) -> bool:
    """Whether a verdict is false in this world."""
    if claim.estimand == LEVEL:  # the two starts do differ in level
        return False
    if world == "nothing":
        if claim.direction in CHANGES or claim.id == "breeds-ranks":
            return claim.verdict in (SUPPORTED, CONTRADICTED, ACCURACY)
        return claim.verdict == CONTRADICTED
    if (
        claim.metric != "md"
        or claim.estimand != "last_minus_first"
        or " - " in claim.scenario_group
    ):
        return False
    wrong = {
        UP: (RULED_OUT, CONTRADICTED), SAME: (SUPPORTED,), NOT_UP: (SUPPORTED,), DOWN: (SUPPORTED,)
    }  # fmt: skip
    return claim.verdict in wrong.get(claim.direction, ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layout", choices=("mnist", "cifar"), default="mnist")
    parser.add_argument("--world", choices=("nothing", "margin"), default="nothing")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    options = parser.parse_args()
    worlds = starts(options.layout)
    at = options.world == "margin"
    steps = {str(i): at_the_margin(w, 0.02) if at else Step() for i, w in enumerate(worlds)}
    wrong: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    words: Counter[tuple[str, str]] = Counter()
    begun, done = time.monotonic(), 0
    while done < options.studies and time.monotonic() - begun < options.seconds:
        found = study(worlds, steps, options.first + done)
        families = {"primary" if c.primary else c.section: c.together for c in found if c.p == c.p}
        sizes |= families
        bad = {"primary" if c.primary else c.section for c in found if false(c, options.world)}
        wrong.update(bad | ({"anywhere on the page"} if bad else set()))
        words.update((("primary" if c.primary else c.section), c.verdict) for c in found)
        done += 1
    print(f"{options.layout}, {options.world}: {done} studies, {time.monotonic() - begun:.0f} s")
    print(f"{'family':36}{'tests':>6}{'false in':>10}{'error':>8}   words")
    sizes["anywhere on the page"] = sum(sizes.values())
    for family, size in sizes.items():
        rate = wrong[family] / done
        error = max((rate * (1 - rate) / done) ** 0.5, 0.5 / done)
        told = ", ".join(f"{w} {n}" for (f, w), n in sorted(words.items())
                         if f == family and w != "not tested")  # fmt: skip
        print(f"{family:36}{size:>6}{rate:>10.3f}{error:>8.3f}   {told}")


if __name__ == "__main__":
    main()
