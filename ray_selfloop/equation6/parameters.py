"""The parameters of eq. 6, as far as the data identify them.

    A_t = (1 - g_M)(1 + d_D + d_Q (1 - q_t) + d_U u_t)

One gauge freedom per connected component of the model x dataset graph: multiplying every 1 - g_M by
c and dividing 1 + d_D, d_Q and d_U by c changes no A_t. So only ratios are reported. A component is
fitted in the gauge where 1 - g_M = 1 for its first model; what the rank check of the design finds
not identified is named and has no number. Where B is read without subgroups there is no u term.
Knows nothing of how B, q and u were measured.

q and u are not taken as known: with standard error e_i of the factor z = 1 - q or u of step i, the
normal equations of least squares are corrected for what e_i adds to them (Fuller's moment
correction, to first order in e_i),

    sum_i w_i J_i r_i + c d = 0,   slope  sum_i w_i J_i J_i' - c,   c = sum_i w_i e_i^2 / growth_i^2

with r the residual of log A, J its gradient and c at d_Q and d_U alone; uncorrected, d is drawn to
0 by the share of z's variance that is error. Where less than LEAST_RELIABLE of that variance
(beside the other terms) is no error, the factor counts as not known. Steps may share an error.

Intervals are by chain: a chain is a loop seed over all scenarios, whose errors may be dependent in
any way (cluster-robust, the correction's own scatter included), plus the test images' part that all
chains share; t quantile at chains - 1 degrees of freedom. Measured: benchmarks/u_coverage.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

from ray_selfloop.equation6.bias import BiasSeries, Labels
from ray_selfloop.equation6.steps import Step, Steps, acting
from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import critical

TINY = 1e-8  # relative singular value below which a direction counts as lost
LOST = 1e-13  # the same of normal equations
LEAST_RELIABLE = 0.3  # of a factor's variance beside the other terms; else it is mostly error
SETTLED, LONGEST = 1e-9, 0.5  # of a correction's step in any parameter
CORRECTIONS = 50  # steps of the corrected normal equations at most
THIS_CHAIN = "this chain only"
NO_U = "not defined: no subgroups"


@dataclass(frozen=True)
class Number:
    """One quantity of eq. 6. value, low, high are NaN where it is not identified (see note)."""

    scope: str
    quantity: str
    value: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class _Step:
    """One observed step: ``y = log B(t+1) - log B(t)`` of one chain.

    draws: ``(R,)``, its error under the image resamples, to first order. x = 1 - q. subgroups:
    whether there is a u term. x_error, u_error: standard errors.
    """

    model: str
    dataset: str
    chain: int
    y: float
    draws: Floats
    weight: float
    x: float
    u: float
    subgroups: bool
    x_error: float
    u_error: float


def _observed(series: Sequence[BiasSeries], factors: Steps, labels: Labels) -> list[_Step]:
    """Steps between generations whose bias is measurable and positive in the chain."""
    found = []
    for one in series:
        if one.inflated or not one.measurable[0]:
            continue
        cell = labels.model(one.scenario, one.classifier), labels.dataset(one.scenario)
        for k, chain in enumerate(one.chains):
            for t in range(one.generations - 1):
                pair = one.squared[:, k, t : t + 2]
                if not (one.measurable[t : t + 2].all() and (pair[0] > 0).all()):
                    continue
                step = acting(factors, one.scenario, one.classifier, chain, t)
                error = (pair[1:] - pair[0]) / (2.0 * pair[0])  # of log B = log(B^2) / 2
                found.append(_step(one, cell, chain, pair[0], error, step))
    return found


def _acted_on(steps: list[_Step]) -> list[_Step]:
    """Without the steps that have neither q nor u: no generated data acted, or none was measured.

    Under ``literal`` step 0 -> 1 is always one. A dataset with no other steps keeps them: they cost
    d_Q and d_U, but still compare its models.
    """
    have = {s.dataset for s in steps if not (np.isnan(s.x) and np.isnan(s.u))}
    return [s for s in steps if not (s.dataset in have and np.isnan(s.x) and np.isnan(s.u))]


def _step(
    one: BiasSeries, cell: tuple[str, str], chain: int, pair: Floats, error: Floats, step: Step
) -> _Step:
    draws = error[:, 1] - error[:, 0]
    training = (one.training / (4.0 * pair**2)).sum()
    weight = 1.0 / (float(draws.var()) + float(training) + 1e-4)  # 1e-4: no step counts alone
    y = 0.5 * float(np.log(pair[1] / pair[0]))
    x, errors = 1.0 - step.q, (step.q_error, step.u_error)
    return _Step(*cell, chain, y, draws, weight, x, step.u, one.subgroups, *errors)


def components(pairs: set[tuple[str, str]]) -> list[tuple[list[str], list[str]]]:
    """Connected components of the model x dataset graph: ``(models, datasets)`` of each, sorted."""
    left, found = set(pairs), []
    while left:
        models, datasets = {min(left)[0]}, set[str]()
        while True:
            datasets |= {d for m, d in pairs if m in models}
            more = {m for m, d in pairs if d in datasets}
            if more == models:
                break
            models = more
        left -= {(m, d) for m, d in left if m in models}
        found.append((sorted(models), sorted(datasets)))
    return found


@dataclass(frozen=True)
class _Design:
    """One component in its gauge: parameters log(1-g_M)/(1-g_ref), log(1+d_D), d_Q, d_U.

    columns: ``(n, p)``, the log-linear design at d_Q = d_U = 0. errors: ``(n, 2)``, standard errors
    of its last two. lost: parameter -> why.
    """

    steps: list[_Step]
    models: list[str]
    datasets: list[str]
    columns: Floats
    errors: Floats
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Parameter names, in the order of the columns."""
        ratios = [f"g {model}" for model in self.models[1:]]
        return [*ratios, *(f"d_D {dataset}" for dataset in self.datasets), "d_Q", "d_U"]

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """``(p,)``: parameters that the fit moves; a lost d_Q or d_U is held at 0."""
        return np.array([not (n in self.lost and n in ("d_Q", "d_U")) for n in self.names])

    def growth(self, parameters: Floats) -> tuple[Floats, Floats]:
        """``1 + d_D`` and ``1 + d_D + d_Q (1 - q) + d_U u`` of every step, ``(n,)`` each."""
        first, cut = len(self.models) - 1, len(self.models) - 1 + len(self.datasets)
        levels = np.exp(self.columns[:, first:cut] @ parameters[first:cut])
        return levels, np.maximum(levels + self.columns[:, cut:] @ parameters[cut:], 1e-9)

    def log_a(self, parameters: Floats) -> Floats:
        """log A of every step, ``(n,)``."""
        first = len(self.models) - 1
        model = self.columns[:, :first] @ parameters[:first]
        return np.asarray(model + np.log(self.growth(parameters)[1]))

    def gradient(self, parameters: Floats) -> Floats:
        """Of `log_a`, ``(n, p)``."""
        first, cut = len(self.models) - 1, len(self.models) - 1 + len(self.datasets)
        levels, growth = self.growth(parameters)
        found = self.columns.copy()
        found[:, first:cut] *= (levels / growth)[:, None]
        found[:, cut:] /= growth[:, None]
        return found


@dataclass(frozen=True)
class _Factor:
    """One factor of eq. 6: values and standard errors ``(n,)``, and the steps that have it."""

    letter: str
    values: Floats
    errors: Floats
    there: NDArray[np.bool_]

    def unknown(self, datasets: list[str]) -> str:
        """Why its parameter is not identified, whatever else there is; "" where it may be."""
        if not self.there.any():
            return NO_U
        if np.isnan(self.values).any():
            return f"{self.letter} is not known for every observed step"
        if not _varies(self.values, datasets):
            return f"{self.letter} is constant over the observed steps"
        return ""

    @property
    def constant(self) -> "_Factor":
        """The same as a constant without error: then it also hides in d_D."""
        return replace(self, values=self.there.astype(np.float64), errors=np.zeros(len(self.there)))


def _factors(steps: list[_Step]) -> dict[str, _Factor]:
    """By the name of its parameter."""
    subgroups = np.array([s.subgroups for s in steps])
    x, u, x_error, u_error = np.array([(s.x, s.u, s.x_error, s.u_error) for s in steps]).T
    return {
        "d_Q": _Factor("q", x, x_error, np.ones(len(steps), np.bool_)),
        "d_U": _Factor("u", np.where(subgroups, u, 0.0), u_error * subgroups, subgroups),
    }


def _design(steps: list[_Step], models: list[str], datasets: list[str]) -> _Design:
    """The design of one component, with the parameters that its rank check finds lost."""
    factors, of = _factors(steps), [s.dataset for s in steps]
    reasons = {name: why for name, one in factors.items() if (why := one.unknown(of))}
    factors = {n: one.constant if np.isnan(one.values).any() else one for n, one in factors.items()}
    levels = np.column_stack(
        [
            *([s.model == m for s in steps] for m in models[1:]),
            *([d == o for o in of] for d in datasets),
        ]
    ).astype(np.float64)
    weights = np.array([s.weight for s in steps])
    for name, other in (("d_Q", "d_U"), ("d_U", "d_Q")):
        beside = np.column_stack([levels, factors[other].values])
        if name not in reasons and not _reliable(factors[name], beside, weights):
            reasons[name] = f"{factors[name].letter} varies no more than its own errors"
            factors[name] = factors[name].constant
    columns = np.column_stack([levels, *(one.values for one in factors.values())])
    errors = np.column_stack([one.errors * (n not in reasons) for n, one in factors.items()])
    design = _Design(steps, models, datasets, columns, errors)
    return replace(design, lost=_lost(design, reasons))


def _lost(design: _Design, reasons: Mapping[str, str]) -> dict[str, str]:
    """Parameter -> why it is not identified."""
    if len(design.steps) <= np.linalg.matrix_rank(design.columns):
        return dict.fromkeys(design.names, "there are no more observed steps than parameters")
    shared = [reason for reason in reasons.values() if reason != NO_U]
    why = "; ".join(shared) or "q and u do not vary independently"
    return {name: reasons.get(name, why) for name in _null(design.columns, design.names)}


def _reliable(factor: _Factor, beside: Floats, weights: Floats) -> bool:
    """Whether enough of a factor's variance beside the other terms ``(n, k)`` is no error."""
    root = np.sqrt(weights)
    others, own = beside * root[:, None], factor.values * root
    rest = own - others @ np.linalg.lstsq(others, own, rcond=None)[0]
    error = float(weights @ factor.errors**2)
    return not error or error <= (1.0 - LEAST_RELIABLE) * float(rest @ rest)


def _varies(values: Floats, datasets: list[str]) -> bool:
    """Whether a factor moves within some dataset (between datasets it is confounded with d_D)."""
    groups = np.array(datasets)
    return any(bool(np.ptp(values[groups == d]) > 1e-9) for d in set(datasets))


def _null(columns: Floats, names: list[str]) -> list[str]:
    """Parameters with a part in the null space of the design (columns scaled to length 1)."""
    scale = np.linalg.norm(columns, axis=0)
    _, singular, vectors = np.linalg.svd(columns / np.where(scale > 0, scale, 1.0))
    size = np.concatenate([singular, np.zeros(len(names) - len(singular))])
    empty = vectors[size <= TINY * max(size[0], TINY)]
    return [name for i, name in enumerate(names) if (np.abs(empty[:, i]) > 1e-6).any()]


@dataclass(frozen=True)
class _Fit:
    """parameters ``(p,)``; note on what the interval covers.

    images: covariance ``(p, p)`` of the test images' part that chains share (all, with one chain).
    scores: ``(m, p)``, each chain's part in the parameters' error, m > 1 chains; else empty.
    """

    parameters: Floats
    images: Floats
    scores: Floats
    level: float
    freedom: int
    note: str

    def reach(self, gradient: Floats) -> float:
        """Half the width of the interval of ``gradient @ parameters``."""
        common, m = max(float(gradient @ self.images @ gradient), 0.0), len(self.scores)
        if not m:
            return float(student.ppf(0.5 + self.level / 2, self.freedom)) * common**0.5
        each = m * (self.scores @ gradient)
        return critical(self.level, m) * (float(each.var(ddof=1)) / m + common) ** 0.5


def _solve(design: _Design, level: float) -> _Fit:
    """Weighted least squares, corrected for the factors' errors, and a covariance that is robust by
    chain.

    Weights are those of independent steps; what steps of a chain, a test set or a classifier share
    enters the covariance alone.
    """
    y = np.array([s.y for s in design.steps])
    root = np.sqrt([s.weight for s in design.steps])
    free = design.fitted
    start = np.zeros(len(free))

    def full(moved: Floats) -> Floats:
        parameters = start.copy()
        parameters[free] = moved
        return parameters

    def residual(moved: Floats) -> Floats:
        return root * (design.log_a(full(moved)) - y)

    parameters = full(least_squares(residual, start[free], x_scale="jac").x)
    parameters, inverse, parts = _corrected(design, parameters, y)
    influence = inverse @ (design.gradient(parameters)[:, free] * root[:, None] ** 2).T
    images, scores, freedom = _sources(design.steps, influence, inverse @ parts)
    covariance = np.zeros((len(free), len(free)))
    covariance[np.ix_(free, free)] = images
    every = np.zeros((len(scores), len(free)))
    every[:, free] = scores
    note = "" if len(scores) else THIS_CHAIN
    return _Fit(parameters, covariance, every, level, freedom, note)


def _corrected(design: _Design, parameters: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Newton's steps on the corrected normal equations, from the uncorrected solution.

    Result: parameters ``(p,)``; of the f fitted ones the equations' inverse slope ``(f, f)`` and
    every step's part in them ``(f, n)``.
    """
    free, weights = design.fitted, np.array([s.weight for s in design.steps])
    noisy = bool(design.errors.any())
    for _ in range(CORRECTIONS if noisy else 1):
        gradient = design.gradient(parameters)[:, free]
        extra = np.zeros((len(free), len(weights)))  # c of every step
        extra[-2:] = weights / design.growth(parameters)[1] ** 2 * design.errors.T**2
        parts = gradient.T * (weights * (y - design.log_a(parameters)))
        parts += (extra * parameters[:, None])[free]
        slope = (gradient.T * weights) @ gradient - np.diag(extra.sum(axis=1)[free])
        inverse = np.linalg.pinv(slope, rcond=LOST, hermitian=True)
        move = inverse @ parts.sum(axis=1)
        if not noisy or float(np.abs(move).max()) < SETTLED:
            break
        parameters = parameters.copy()
        parameters[free] += move / max(1.0, float(np.abs(move).max()) / LONGEST)
    return parameters, inverse, parts


def _sources(steps: list[_Step], influence: Floats, parts: Floats) -> tuple[Floats, Floats, int]:
    """The images' covariance that chains share, the chains' scores, and degrees of freedom.

    influence: ``(p, n)``, d parameters / d y. parts: ``(p, n)``, every step's part in the error.
    With one chain: test images plus the scatter of its steps, no scores.
    """
    chain = np.array([s.chain for s in steps])
    draws = np.stack([s.draws for s in steps])  # (n, R)
    image = np.atleast_2d(np.cov(influence @ draws))
    names = np.unique(chain)
    if len(names) == 1:
        spare = len(steps) - len(influence)
        scatter = parts @ parts.T * len(steps) / spare
        return image + scatter, np.zeros((0, len(influence))), spare
    own = [influence[:, chain == k] for k in names]
    scores = np.stack([parts[:, chain == k].sum(axis=1) for k in names])
    apart = [np.cov(part @ draws[chain == k]) for part, k in zip(own, names, strict=True)]
    values, vectors = np.linalg.eigh(np.atleast_2d(image - np.sum(apart, axis=0)))
    return (vectors * np.maximum(values, 0.0)) @ vectors.T, scores, len(names) - 1


def _numbers(design: _Design, fit: _Fit) -> list[Number]:
    """Ratios of the component; those that involve a lost parameter without a number."""
    index = {name: i for i, name in enumerate(design.names)}
    found = []
    reference = design.models[0]
    for model in design.models[1:]:
        quantity = f"(1-g[{model}])/(1-g[{reference}])"
        found.append(_exponential(design, fit, model, quantity, {f"g {model}": 1.0}))
    first = design.datasets[0]
    for dataset in design.datasets[1:]:
        terms = {f"d_D {dataset}": 1.0, f"d_D {first}": -1.0}
        found.append(_exponential(design, fit, dataset, f"(1+d_D)/(1+d_D[{first}])", terms))
    for name in ("d_Q", "d_U"):
        for dataset in design.datasets:
            found.append(_relative(design, fit, dataset, name, index))
    return found + _admissible(design, fit)


def _refused(design: _Design, names: Sequence[str]) -> str:
    """Why a quantity has no number; empty where it has one."""
    why = [design.lost[name] for name in names if name in design.lost]
    return f"not identified: {why[0]}" if why else ""


def _exponential(
    design: _Design, fit: _Fit, scope: str, quantity: str, terms: Mapping[str, float]
) -> Number:
    """exp of a sum of parameters, with its interval."""
    nan, refused = float("nan"), _refused(design, list(terms))
    if refused:
        return Number(scope, quantity, nan, nan, nan, refused)
    weight = np.array([terms.get(name, 0.0) for name in design.names])
    centre, reach = weight @ fit.parameters, fit.reach(weight)
    value, low, high = np.exp([centre, centre - reach, centre + reach]).tolist()
    return Number(scope, quantity, value, low, high, fit.note)


def _relative(
    design: _Design, fit: _Fit, dataset: str, name: str, index: Mapping[str, int]
) -> Number:
    """d_Q/(1+d_D) or d_U/(1+d_D) of one dataset, by the delta method."""
    nan, level = float("nan"), f"d_D {dataset}"
    quantity, refused = f"{name}/(1+d_D)", _refused(design, [name, level])
    if name == "d_U" and not any(s.subgroups for s in design.steps if s.dataset == dataset):
        refused = NO_U
    if refused:
        return Number(dataset, quantity, nan, nan, nan, refused)
    value = float(fit.parameters[index[name]] * np.exp(-fit.parameters[index[level]]))
    gradient = np.zeros(len(index))
    gradient[index[name]] = np.exp(-fit.parameters[index[level]])
    gradient[index[level]] = -value
    reach = fit.reach(gradient)
    return Number(dataset, quantity, value, value - reach, value + reach, fit.note)


def _admissible(design: _Design, fit: _Fit) -> list[Number]:
    """The g_M that the gauge leaves open if 0 <= g_M < 1 for all models and d_D >= 0 for all data.

    ``1 - g_M = c r_M`` and ``1 + d_D = s_D / c`` with fitted r_M and s_D: c is at most the smallest
    of 1 / max r_M and min s_D, so that g_M lies in ``[1 - c r_M, 1)``.
    """
    if any(name not in ("d_Q", "d_U") for name in design.lost):
        return []
    cut = len(design.models) - 1
    ratios = np.exp(np.concatenate([[0.0], fit.parameters[:cut]]))
    levels = np.exp(fit.parameters[cut : cut + len(design.datasets)])
    most = min(1.0 / float(ratios.max()), float(levels.min()))
    note = "admissible interval under 0 <= g < 1 and d_D >= 0; not an estimate"
    return [
        Number(model, "g", float("nan"), 1.0 - most * float(ratio), 1.0, note)
        for model, ratio in zip(design.models, ratios, strict=True)
    ]


def parameters(
    series: Sequence[BiasSeries], factors: Steps, level: float, labels: Labels
) -> list[Number]:
    """Every ratio of eq. 6's parameters, component by component; empty without an observed step.

    level: coverage of the intervals. labels: which scenarios are one dataset and which classifiers
    one model. Steps without q and u take no part where a dataset has others.
    """
    steps = _acted_on(_observed(series, factors, labels))
    found: list[Number] = []
    for models, datasets in components({(s.model, s.dataset) for s in steps}):
        design = _design([s for s in steps if s.model in models], models, datasets)
        if all(name in design.lost for name in design.names):
            none = np.zeros((0, 0))
            nothing = _Fit(np.zeros(len(design.names)), none, none, level, 1, "")
            found += _numbers(design, nothing)
        else:
            found += _numbers(design, _solve(design, level))
    return found
