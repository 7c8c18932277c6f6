"""Do p values hold in the tail? P(p < a) / a where there is no effect.

    python benchmarks/tail.py [--draws 4000000] [--seed 0]

m chains' numbers: normal (or t with 4 freedom, same variance) between chains plus a normal part
that all chains share, the test images, whose variance is known. p as `inference.chains` makes it
(Behrens and Fisher's), as t with m - 1 freedom on between + shared would, and as Satterthwaite's
estimated freedom did. Must be at most 1.2 everywhere for normal chains.
"""

import argparse

import numpy as np
from scipy.stats import t as student

from ray_selfloop.inference.chains import tails

ALPHAS = (0.05, 0.01, 0.001, 0.0005)
RATIOS = (
    200.0,
    10.0,
    1.0,
    0.1,
)  # variance between chains over the shared image variance, of one chain
CHAINS = (2, 3, 5, 10)


def drawn(chains: int, ratio: float, shape: str, draws: int, rng: np.random.Generator) -> tuple:
    """Mean and ``s^2 / m`` of each draw, and the shared variance."""
    between = rng.standard_normal((draws, chains))
    if shape == "t4":
        between = rng.standard_t(4, (draws, chains)) / 2**0.5
    shared = 1.0 / ratio
    values = between + shared**0.5 * rng.standard_normal((draws, 1))
    return values.mean(axis=1), values.var(axis=1, ddof=1) / chains, shared


def rates(mean: np.ndarray, between: np.ndarray, shared: float, chains: int) -> dict[str, list]:
    """P(p < a) for each a, by each way to p."""
    total = between + shared
    t = np.abs(mean) / np.sqrt(total)
    found = {
        "this program": tails(np.abs(mean), between, shared, chains),
        "t, m - 1": 2 * student.sf(t, chains - 1),
        "Satterthwaite": 2 * student.sf(t, (chains - 1) * (total / between) ** 2),
    }
    return {name: [float((p < a).mean()) for a in ALPHAS] for name, p in found.items()}


def table(draws: int, seed: int) -> list[tuple[str, int, float, str, list[float]]]:
    """Rows: tails, chains, ratio, method, rates."""
    rng, found, portion = np.random.default_rng(seed), [], 500_000
    for shape in ("normal", "t4"):
        for chains in CHAINS:
            for ratio in RATIOS:
                parts = [
                    rates(*drawn(chains, ratio, shape, min(portion, draws), rng), chains)
                    for _ in range(max(draws // portion, 1))
                ]
                for name in parts[0]:
                    mean = np.mean([part[name] for part in parts], axis=0).tolist()
                    found.append((shape, chains, ratio, name, mean))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    errors = [(a * (1 - a) / options.draws) ** 0.5 / a for a in ALPHAS]
    print("P(p < a) / a without an effect; Monte-Carlo error in brackets below")
    print(f"{'chains are':10}{'m':>4}{'chain : image':>15}  {'p by':15}" +
          "".join(f"a = {a:<8g}" for a in ALPHAS))  # fmt: skip
    for shape, chains, ratio, name, found in table(options.draws, options.seed):
        cells = "".join(f"{rate / a:<12.2f}" for rate, a in zip(found, ALPHAS, strict=True))
        print(f"{shape:10}{chains:>4}{ratio:>12g} : 1  {name:15}{cells}")
    print(" " * 46 + "".join(f"({e:.3f})".ljust(12) for e in errors))


if __name__ == "__main__":
    main()
