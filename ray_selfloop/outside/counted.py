"""What counts (n, correct of each class and group) say of a scenario: readings, their rows, B.

Counts do not tell which test images are right, so that nothing is paired by image: intervals are of
the scatter between chains alone (`inference.chains.effect_of_chains`), and a single trial has one
(Wilson's) where its number is a rate of rows. Knows no file.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import pandas as pd

from ray_selfloop import seeding
from ray_selfloop.claims.contrasts import Trial
from ray_selfloop.claims.paired import Key, Measured
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import BiasSeries
from ray_selfloop.evaluation import fairness, metrics
from ray_selfloop.evaluation.against_rest import against_rest
from ray_selfloop.evaluation.predictions import Floats, TestSet
from ray_selfloop.evaluation.readings import Plan, Reading, all_readings, di_classes, gap_variances
from ray_selfloop.evaluation.rows import NAN, Rows, Where
from ray_selfloop.evaluation.tallies import Tally
from ray_selfloop.inference.chains import effect_of_chains
from ray_selfloop.inference.images import wilson

COPIES = 3  # of the observed values, where draws of images are wanted: no error of theirs is known
Ends = tuple[float, float, float]


@dataclass(frozen=True)
class Counts:
    """One classifier in one scenario, T trials. hits: ``(T, C, G)`` correct test rows."""

    scenario: str
    classifier: str
    trials: tuple[Trial, ...]
    hits: Floats
    test: TestSet
    settings: Evaluation

    @cached_property
    def tally(self) -> Tally:
        shape = (self.test.classes, self.test.groups)
        cells = self.test.labels * self.test.groups + self.test.subgroups
        counted = np.bincount(cells, minlength=shape[0] * shape[1])
        support = counted.reshape(shape).astype(np.float64)
        unknown = np.full((1, *self.hits.shape), np.nan)
        return Tally(
            hits=self.hits[None],
            support=support,
            together=np.empty((0, 0, *shape)),
            subgroup_names=self.test.subgroup_names,
            half_hits=unknown,
            half_support=unknown[:, 0],
            spread=None,
            units=support.sum(axis=1),
        )

    def _against_rest(self, plan: Plan) -> Iterator[Reading]:
        """Of two classes it is known which class a wrong row is taken for."""
        if self.test.classes == 2:
            missed = (self.tally.support - self.tally.hits)[..., ::-1, :]
            wrong = replace(self.tally, hits=missed, support=self.tally.support[::-1])
            yield from against_rest(self.tally, wrong, plan)

    @cached_property
    def readings(self) -> list[Reading]:
        """All that need no image, values ``(1, T)``."""
        runs = np.unique([(t.loop_seed, t.seed) for t in self.trials], axis=0, return_inverse=True)
        classes = di_classes(self.hits, self.tally.support, runs[1].ravel())
        plan = Plan(self.test, self.settings.ordered, np.arange(len(self.trials)), classes)
        found = chain(all_readings(self.tally, plan), self._against_rest(plan))
        return [one for one in found if one.metric != metrics.RANKED_CROSS_FITTED.name]

    @cached_property
    def base(self) -> list[int]:
        """Generation 0 of each trial's run."""
        at = {(t.loop_seed, t.seed): i for i, t in enumerate(self.trials) if t.generation == 0}
        return [at[t.loop_seed, t.seed] for t in self.trials]

    @property
    def measured(self) -> Measured:
        """Readings over all classes, for contrasts of chains."""
        values: dict[Key, Floats] = {
            (one.metric, one.subgroup): np.repeat(one.values, COPIES, axis=0)
            for one in self.readings
            if not one.cls
        }
        sound = np.ones(len(self.trials), np.bool_)
        nothing = np.zeros((len(self.trials), self.test.classes), np.bool_)
        return Measured(self.trials, sound, values, nothing, max(t.generation for t in self.trials))

    # --- rows ------------------------------------------------------------------------------------

    def rows(self) -> pd.DataFrame:
        """As `evaluation.classifier_rows.fairness_rows` has them."""
        rows = Rows(self.scenario, "test")
        for reading in self.readings:
            self._write(rows, reading, reading.values[0], "")
            if reading.changes:
                self._write(rows, reading, reading.values[0] - reading.values[0, self.base],
                            "change")  # fmt: skip
        for t in self.trials:
            rows.add(metrics.COLLAPSED.name, [0.0], self._where(t))
        for generation, of in self._chains().items():
            where = Where(generation=generation, classifier=self.classifier)
            trials = float(sum(map(len, of)))
            for one, value in (
                (metrics.COLLAPSED, 0.0),
                (metrics.TRIALS, trials),
                (metrics.TRIALS_ACCURACY, trials),
                (metrics.CHAINS, float(len(of))),
            ):
                rows.add(one.name, [value], where)
        return rows.frame()

    def _where(self, t: Trial) -> Where:
        return Where(t.loop_seed, t.generation, self.classifier, t.seed)

    def _chains(self) -> dict[int, list[list[int]]]:
        """Generation -> the trials of each chain."""
        found: dict[int, dict[int, list[int]]] = {}
        for i, t in enumerate(self.trials):
            found.setdefault(t.generation, {}).setdefault(t.loop_seed, []).append(i)
        return {generation: list(of.values()) for generation, of in found.items()}

    def _write(self, rows: Rows, reading: Reading, values: Floats, suffix: str) -> None:
        """Rows of each trial, then of each generation's mean over seeds and chains."""
        places = list(self._places(reading, values, suffix))
        for key in keys(reading.metric, self.test):
            name, of = metrics.with_suffix(key, suffix), (reading.cls, reading.subgroup)
            for where, ends in places:
                rows.add(name, ends, where, of)
                if reading.root and not suffix:
                    root = key.replace(metrics.GAP_VARIANCE.name, metrics.GAP_RMS.name)
                    rows.add(root, np.sqrt(np.maximum(ends, 0.0)).tolist(), where, of)

    def _places(
        self, reading: Reading, values: Floats, suffix: str
    ) -> Iterator[tuple[Where, Ends]]:
        for i, t in enumerate(self.trials):
            if suffix and not t.generation:
                continue
            yield self._where(t), self._of_trial(reading, float(values[i]), suffix)
        for generation, chains in self._chains().items():
            if generation or not suffix:
                means = np.array([values[seeds].mean() for seeds in chains])
                found = effect_of_chains(means, self.settings.level)
                where = Where(generation=generation, classifier=self.classifier)
                yield where, (found.value, found.low, found.high)

    def _of_trial(self, reading: Reading, value: float, suffix: str) -> Ends:
        if suffix or not reading.rows or np.isnan(value):
            return value, NAN, NAN
        return wilson(round(value * reading.rows), round(reading.rows), self.settings.level)

    # --- bias ------------------------------------------------------------------------------------

    def series(self) -> BiasSeries:
        """B^2, without the images' noise in expectation, as they enter the law of eq. 6.

        All scatter counts as the chains' own. Of several seeds the mean is taken: pairs of
        different ones share the test images, and how much counts do not tell.
        """
        chains = tuple(sorted({t.loop_seed for t in self.trials}))
        shape = len(chains), max(t.generation for t in self.trials) + 1
        at = np.array([chains.index(t.loop_seed) * shape[1] + t.generation for t in self.trials])
        counts = np.bincount(at, minlength=shape[0] * shape[1])

        def placed(values: Floats) -> Floats:
            total = np.bincount(at, values, minlength=shape[0] * shape[1])
            mean = np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)
            return np.asarray(mean.reshape(shape))

        squared = placed(gap_variances(self.tally, bootstrap=False)[0][0])
        accuracy = placed(self.hits.sum(axis=(1, 2)) / self.tally.support.sum())
        return BiasSeries(
            self.scenario,
            self.classifier,
            chains,
            np.repeat(squared[None], COPIES, axis=0),
            0.0,
            counts.reshape(shape),
            self._floor(placed),
            np.zeros((COPIES - 1, *shape)),
            accuracy=np.repeat(accuracy[None], COPIES, axis=0),
        )

    def _floor(self, placed: Callable[[Floats], Floats]) -> Floats:
        """Upper end of the chains' mean B^2 if groups were equal, ``(N + 1,)``: the correct rows of
        each class dealt to its groups by chance. Which images the chains share is not known: the
        mean of the chains' own ends, at which it is if they share all, is the largest it can be."""
        rng = seeding.rng(self.settings.seed, "dealt")
        draws = [self._dealt(rng) for _ in range(self.settings.permutations)]
        with warnings.catch_warnings():  # cells of one row have no variance: NaN is the answer
            warnings.simplefilter("ignore", RuntimeWarning)
            ends = np.nanquantile(np.stack(draws), 0.5 + self.settings.level / 2, axis=0)
            return np.asarray(np.nanmean(placed(ends), axis=0))

    def _dealt(self, rng: np.random.Generator) -> Floats:
        """B^2 of each trial, ``(T,)``, of one deal."""
        support = self.tally.support.astype(np.int64)
        left, hits = self.hits.sum(axis=-1).astype(np.int64), np.zeros_like(self.hits)
        for g in range(self.test.groups):
            rest = support[:, g + 1 :].sum(axis=-1)
            hits[..., g] = rng.hypergeometric(support[:, g], rest, left)
            left = left - hits[..., g].astype(np.int64)
        return fairness.mean_defined(fairness.gap_variance(hits, self.tally.support)[0])


def keys(metric: str, test: TestSet) -> list[str]:
    """The key of a reading, and beside it the one without a reading where this one applies."""
    pooled = test.pooled and not metrics.describe(metric).within_class
    plain = metric.removesuffix("_pooled" if pooled else "_per_class")
    return [metric] if plain == metric else [metric, plain]


def counts(scenario: str, rows: pd.DataFrame, names: tuple[Sequence[str], Sequence[str]],
           settings: Evaluation) -> list[Counts]:  # fmt: skip
    """Each classifier of a scenario. names: of the classes and of the groups."""
    cells = pd.MultiIndex.from_product(names, names=["class", "group"])
    index = ["classifier", "chain", "seed", "generation"]
    wide = rows.pivot(index=index, columns=["class", "group"], values="correct")[cells]
    n = rows.drop_duplicates(["class", "group"]).set_index(["class", "group"])["n"]
    shape = len(names[0]), len(names[1])
    test = test_set(n.reindex(cells).to_numpy().reshape(shape), names)
    found = []
    for classifier, of in wide.groupby(level="classifier", sort=True):
        trials = tuple(Trial(TREATMENT.name, k, s, t) for _, k, s, t in of.index)
        hits = of.to_numpy(np.float64).reshape(len(of), *shape)
        found.append(Counts(scenario, str(classifier), trials, hits, test, settings))
    return found


def test_set(support: Floats, names: tuple[Sequence[str], Sequence[str]]) -> TestSet:
    """Rows without images. support: ``(C, G)``, which stands for the training shares: a table does
    not have them. Rates are pooled over classes where the groups' shares are the same in all."""
    cells = np.repeat(np.arange(support.size), support.ravel().astype(np.int64))
    groups = support.shape[1]
    return TestSet(
        cells // groups,
        cells % groups,
        np.arange(len(cells)),
        tuple(names[0]),
        tuple(names[1]),
        support,
        alike(support),
        crossed=False,
    )


def alike(support: Floats) -> bool:
    """Whether the groups' shares are the same in every class."""
    shares = support / support.sum(axis=1, keepdims=True)
    return bool(np.ptp(shares, axis=0).max() <= fairness.MAJORITY_MARGIN)
