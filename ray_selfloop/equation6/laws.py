"""Which law bias follows: each is fitted without the last generations and has to predict them.

    eq6:          B(t+1) = A_t B(t),  A_t = a0 (1 + rQ (1 - q_t) + rU u_t)
    constant:     B(t+1) = A B(t)
    affine:       B(t+1) = a + b B(t),  0 <= b <= 1.5, B in [0, 1]
    persistence:  B(t+1) = B(t)
a0 = (1-g_M)(1+d_D), rQ = d_Q/(1+d_D), rU = d_U/(1+d_D): what one model and dataset identify. The
target is Y, the unbiased estimate of B^2, so that noise in a generation that is only fitted (errors
in variables) pulls no parameter: a law predicts the whole path of B^2 from one unknown B(0) for
each chain, fitted by least squares. Persistence does not repeat the noisy last Y: it carries on a
local level, filtered with the noise that the differences of Y show. eq6 knows q and u of the steps
that it predicts. Knows nothing of how B, q and u were measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import BiasSeries
from ray_selfloop.equation6.steps import Steps, acting
from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import effect_of_chains

FEWEST = 3  # steps to fit: an affine law has two parameters and a level
STEEPEST = 1.5  # b of the affine law
Growth = Callable[[Floats], Floats]  # parameters -> log A_t of every chain and step, (m, N)


@dataclass(frozen=True)
class Law:
    """One law of one classifier in one scenario, judged on the held-out last generations.

    law: ``eq6``, ``constant``, ``affine`` or ``persistence``. parameters: name -> value; plain
    factors, affine's a a fraction. held_out_error: root mean squared difference of predicted and
    measured B^2 over chains and held-out generations (fraction^2; measurement noise included, the
    same for every law); low, high: root of the t interval of the mean square over chains.
    better_than_persistence: whether the chains' squared errors lie below persistence's (t interval
    of the paired difference); None where the interval holds 0, or with one chain. NaN with a note
    where there is nothing to fit or to predict.
    """

    scenario: str
    classifier: str
    law: str
    parameters: Mapping[str, float]
    held_out_error: float
    low: float
    high: float
    better_than_persistence: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class _Fitted:
    """Predicted B^2 of the held-out generations, ``(m, h)``."""

    parameters: dict[str, float]
    predicted: Floats
    note: str = ""


def _path(y: Floats, log_a: Floats) -> Floats:
    """The path ``v_k exp(2 sum log A)`` that fits ``y`` best; y ``(m, n)`` with n the generations
    fitted, log_a ``(m, N)``. Result ``(m, N + 1)``, B^2."""
    total = np.concatenate([np.zeros((len(y), 1)), np.cumsum(log_a, axis=1)], axis=1)
    shape = np.exp(2.0 * np.clip(total, -30, 30))
    seen = np.where(np.isnan(y), 0.0, shape[:, : y.shape[1]])
    level = (np.nan_to_num(y) * seen).sum(axis=1) / (seen**2).sum(axis=1)
    return np.asarray(np.maximum(level, 0.0)[:, None] * shape)


def _multiplicative(y: Floats, growth: Growth, start: Floats) -> tuple[Floats, Floats]:
    """Least squares over the law's parameters; chains' levels are profiled out."""

    def residual(parameters: Floats) -> Floats:
        path = _path(y, growth(parameters))[:, : y.shape[1]]
        return np.nan_to_num((y - path) / scale).ravel()

    scale = max(float(np.sqrt(np.nanmean(y**2))), 1e-12)
    found = least_squares(residual, start)
    return found.x, _path(y, growth(found.x))


def _constant(y: Floats, h: int) -> _Fitted:
    steps = y.shape[1] - 1 + h

    def growth(parameters: Floats) -> Floats:
        return np.full((len(y), steps), parameters[0])

    found, path = _multiplicative(y, growth, np.zeros(1))
    return _Fitted({"A": float(np.exp(found[0]))}, path[:, -h:])


def _eq6(y: Floats, h: int, x: Floats, u: Floats | None) -> _Fitted:
    """x = 1 - q and u of every step, ``(m, N)``; a factor that does not move is left out.

    u is None where it is not defined.
    """
    fitted, last = slice(0, y.shape[1] - 1), y.shape[1] - 1 + h
    columns, lost = {}, []
    for name, letter, values in (("d_Q/(1+d_D)", "q", x), ("d_U/(1+d_D)", "u", u)):
        if values is None:
            lost.append(f"{letter} is not defined: no subgroups")
        elif np.isnan(values[:, :last]).any():
            lost.append(f"{letter} is not known for every step")
        elif np.ptp(values[:, fitted]) <= 1e-9:
            lost.append(f"{letter} is constant: {name} is lost")
        else:
            columns[name] = values[:, :last]
    if not columns:
        return _Fitted({}, np.full((len(y), h), np.nan), "; ".join(lost))
    design = np.stack([np.ones_like(x[:, :last]), *columns.values()])
    if np.linalg.matrix_rank(design[:, :, fitted].reshape(len(design), -1)) < len(design):
        return _Fitted({}, np.full((len(y), h), np.nan), "q and u do not vary independently")

    def growth(parameters: Floats) -> Floats:
        ratios = np.tensordot(parameters[1:], design[1:], 1)
        return np.asarray(parameters[0] + np.log(np.maximum(1.0 + ratios, 1e-3)))

    found, path = _multiplicative(y, growth, np.zeros(len(design)))
    ratios = {name: float(v) for name, v in zip(columns, found[1:], strict=True)}
    return _Fitted(
        {"(1-g)(1+d_D)": float(np.exp(found[0]))} | ratios, path[:, -h:], "; ".join(lost)
    )


def _affine(y: Floats, h: int) -> _Fitted:
    """Parameters a, b and every chain's B(0).

    A steeper b runs away from noise: it fits a flat B by an unstable fixed point.
    """
    m, n = y.shape
    scale = min(max(float(np.sqrt(np.nanmean(np.abs(y)))), 1e-9), 0.9)  # of B

    def path(parameters: Floats) -> Floats:
        bias = [parameters[2:]]
        for _ in range(n - 1 + h):
            bias.append(np.clip(parameters[0] + parameters[1] * bias[-1], 0.0, 1.0 / scale))
        return np.stack(bias, axis=1) ** 2

    def residual(parameters: Floats) -> Floats:
        return np.nan_to_num(y / scale**2 - path(parameters)[:, :n]).ravel()

    start = np.concatenate([[0.05, 0.95], np.ones(m)])
    low = np.concatenate([[-1.0 / scale, 0.0], np.zeros(m)])
    high = np.concatenate([[1.0 / scale, STEEPEST], np.full(m, 1.0 / scale)])
    found = least_squares(residual, start, bounds=(low, high)).x
    values = {"a": float(scale * found[0]), "b": float(found[1])}
    note = "b is at its bound" if not 1e-3 < values["b"] < STEEPEST - 1e-3 else ""
    return _Fitted(values, scale**2 * path(found)[:, -h:], note)


def _persistence(y: Floats, h: int) -> _Fitted:
    """A local level: Y = level + noise r, level a random walk with variance w per step.

    r and w from the differences D of Y, pooled over chains: cov(D_t, D_t+1) = -r, var D = w + 2 r.
    """
    change = np.diff(y, axis=1)
    after = change[:, 1:] * change[:, :-1]
    noise = max(-float(np.nanmean(after)), 0.0) if np.isfinite(after).any() else 0.0
    total = float(np.nanmean(change**2)) if np.isfinite(change).any() else 0.0
    walk = max(total - 2.0 * noise, 0.0)
    level, variance = np.full(len(y), np.nan), np.full(len(y), np.inf)
    for now in y.T:
        gain = np.ones(len(y)) if noise == 0 else 1.0 - noise / (variance + noise)
        known, first = ~np.isnan(now), np.isnan(level)
        moved = np.where(first, now, level + gain * (now - level))
        level = np.where(known, moved, level)
        variance = np.where(known, np.where(first, noise, gain * noise), variance) + walk
    values = {"noise": noise**0.5, "walk": walk**0.5}
    return _Fitted(values, np.repeat(np.maximum(level, 0.0)[:, None], h, axis=1))


def _factors(series: BiasSeries, factors: Steps) -> tuple[Floats, Floats]:
    """1 - q and u of every chain and step, ``(m, N)`` each."""
    shape = (len(series.chains), series.generations - 1)
    x, u = np.empty(shape), np.empty(shape)
    for k, t in np.ndindex(shape):
        step = acting(factors, series.scenario, series.classifier, series.chains[k], t)
        x[k, t], u[k, t] = 1.0 - step.q, step.u
    return x, u


def _judged(
    series: BiasSeries, law: str, fitted: _Fitted, errors: Mapping[str, Floats], level: float
) -> Law:
    """errors: law -> mean squared error of every chain, ``(m,)``."""
    mean = effect_of_chains(errors[law], level)
    value, low, high = np.sqrt(np.maximum([mean.value, mean.low, mean.high], 0.0)).tolist()
    better = None
    if law != "persistence":
        change = effect_of_chains(errors[law] - errors["persistence"], level)
        better = True if change.high < 0 else (False if change.low > 0 else None)
    notes = [fitted.note] if fitted.note else []
    if len(series.chains) == 1 and not np.isnan(value):
        notes.append("one chain: no interval")
    return Law(
        series.scenario, series.classifier, law, fitted.parameters, value, low, high, better,
        "; ".join(notes),
    )  # fmt: skip


def _nothing(series: BiasSeries, note: str) -> list[Law]:
    nan = float("nan")
    return [
        Law(series.scenario, series.classifier, law, {}, nan, nan, nan, None, note)
        for law in ("eq6", "constant", "affine", "persistence")
    ]


def compare(series: BiasSeries, factors: Steps, settings: Evaluation) -> list[Law]:
    """The four laws of one classifier in one scenario, eq6 first.

    Chains that lack two fitted generations or all held-out ones take no part.
    """
    h = min(settings.dynamics.held_out, series.generations - 1 - FEWEST)
    if h < 1:
        return _nothing(series, "too few generations to hold any out")
    if not series.measurable[0]:
        return _nothing(series, "no measurable bias at generation 0")
    y, (x, u) = series.squared[0], _factors(series, factors)
    used = (~np.isnan(y[:, :-h])).sum(axis=1) >= 2
    used &= ~np.isnan(y[:, -h:]).all(axis=1)
    if not used.any():
        return _nothing(series, "no chain has enough generations")
    seen, target = y[used, :-h], y[used, -h:]
    laws = {
        "eq6": _eq6(seen, h, x[used], u[used] if series.subgroups else None),
        "constant": _constant(seen, h),
        "affine": _affine(seen, h),
        "persistence": _persistence(seen, h),
    }
    known = np.maximum((~np.isnan(target)).sum(axis=1), 1)
    errors = {
        name: np.where(np.isnan(f.predicted).any(axis=1), np.nan,
                       np.nansum((target - f.predicted) ** 2, axis=1) / known)
        for name, f in laws.items()
    }  # fmt: skip
    return [_judged(series, name, f, errors, settings.level) for name, f in laws.items()]
