"""How much longer intervals over few chains are than the shortest that hold whatever the scatter.

    python benchmarks/shortest_interval.py [--draws 500]

The mean of m chains errs by N(0, c + own + v): c and own, the images' parts, are known, v is what
differs between chains and is not; s^2 / m ~ (own + v) chi^2 / (m - 1) is all that tells of it. A
rule gives a half-width for every s^2. Of all rules that cover 95 % or more at every v, randomised
ones too, a linear program finds the one that is shortest on average where v = 0, the world in which
`inference.chains` covers most. It knows v = 0 beforehand and has no p value: nothing can be shorter
there. Beside it the program's rule in the same world: mean half-width and coverage.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog
from scipy.sparse import csr_array
from scipy.stats import chi2, norm

from ray_selfloop.inference.chains import tail

Floats = NDArray[np.float64]
LEVEL = 0.95
BETWEEN = np.concatenate([[0.0], np.logspace(-2, 4, 49)])  # v, in known variances
EDGES = np.logspace(-4, 6, 121)  # of s^2 / m
WIDTHS = np.concatenate([np.linspace(0.3, 6, 80), np.logspace(np.log10(6.2), 4.5, 80)])


def shortest(chains: int, own: float) -> tuple[float, float]:
    """Mean half-width and coverage at v = 0 of the shortest rule; c = 1 - own."""
    freedom = chains - 1
    below = [chi2.cdf(freedom * EDGES / (own + v), freedom) for v in BETWEEN]
    seen = np.array([np.diff(np.concatenate([[0], share, [1]])) for share in below])
    covers = np.array([2 * norm.cdf(WIDTHS / (1 + v) ** 0.5) - 1 for v in BETWEEN])
    inside = np.einsum("vb,vw->vbw", seen, covers).reshape(len(BETWEEN), -1)
    length = np.outer(seen[0], WIDTHS).ravel()
    one_rule = csr_array(np.kron(np.eye(seen.shape[1]), np.ones(len(WIDTHS))))
    found = linprog(
        length, A_ub=-inside, b_ub=np.full(len(BETWEEN), -LEVEL),
        A_eq=one_rule, b_eq=np.ones(seen.shape[1]), method="highs",
    )  # fmt: skip
    if not found.success:
        raise RuntimeError(found.message)
    return float(found.fun), float(inside[0] @ found.x)


def ours(chains: int, own: float, draws: int) -> tuple[float, float]:
    """Mean half-width and coverage of the program's rule at v = 0, over quantiles of s^2 / m."""
    s2 = own * chi2.ppf((np.arange(draws) + 0.5) / draws, chains - 1) / (chains - 1)
    widths = np.array([_width(float(b), 1 - own, chains, own) for b in s2])
    return float(widths.mean()), float((2 * norm.cdf(widths) - 1).mean())


def _width(between: float, shared: float, chains: int, own: float) -> float:
    def beyond(d: float) -> float:
        return tail(d, between, shared, chains, own) - (1 - LEVEL)

    return float(brentq(beyond, 0.0, 1e4))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=500, help="values of s^2 / m")
    draws = parser.parse_args().draws
    print("| chains | own share of the known part | shortest: half-width, covers | ours |")
    print("|---|---|---|---|")
    for chains in (2, 3, 5, 8):
        for own in (1.0, 0.5, 0.2):
            (least, there), (width, here) = shortest(chains, own), ours(chains, own, draws)
            print(f"| {chains} | {own} | {least:.2f}, {100 * there:.1f} % | {width:.2f}, "
                  f"{100 * here:.1f} % ({width / least:.2f} times) |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
