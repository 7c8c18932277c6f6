"""Readings of each class against all others: how often it is predicted, and how often wrongly.

Only where subgroup i means the same in every class: rows of other classes are counted with it.
Decides which counts of a tally such a reading takes; what it is, stands in `fairness`.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ray_selfloop.evaluation import fairness, metrics, noise
from ray_selfloop.evaluation.predictions import TestSet
from ray_selfloop.evaluation.readings import Plan, Reading, around_truth
from ray_selfloop.evaluation.tallies import Counts


def against_rest(right: Counts, mistaken: Counts, plan: Plan) -> Iterator[Reading]:
    """Of tallies with permutations; counts of rows that are right and that are taken for a class.

    A mean over classes, then each class.
    """
    rates = _rates(right, mistaken, plan.test)
    for one in metrics.reading(metrics.Reads.AGAINST_REST):
        values = np.asarray(one(rates))
        if np.isnan(values).all():  # no association in the training data
            continue
        yield Reading(one.name, fairness.mean_defined(values))
        for c, name in enumerate(plan.test.class_names):
            yield Reading(one.name, values[..., c], cls=name, changes=False)


def drawn_against_rest(right: Counts, mistaken: Counts, plan: Plan) -> Iterator[Reading]:
    """Of tallies with resamples, which are laid around rates without the noise's share."""
    shrunk = [noise.shrinkage(counts, plan.pools) for counts in (right, mistaken)]
    whole = [_around(*of) for of in zip((right, mistaken), shrunk, strict=True)]
    response = np.minimum(shrunk[0].response, shrunk[1].response)
    seen = against_rest(right.first, mistaken.first, plan)
    for reading in around_truth(seen, against_rest(whole[0], whole[1], plan)):
        gap = reading.metric != metrics.DBA_AT.name  # else linear in the rates
        yield replace(reading, response=response) if gap else reading


def _around(counts: Counts, shrunk: noise.Shrinkage) -> Counts:
    return noise.around(counts, shrunk(fairness.ratio(counts.hits[0], counts.support)))


def _rates(right: Counts, mistaken: Counts, test: TestSet) -> fairness.AgainstRest:
    rows = right.support.sum(axis=0)
    classes = right.support.sum(axis=1)
    return fairness.AgainstRest(
        right=fairness.ratio(right.hits, right.support),
        wrong=fairness.ratio(mistaken.hits, mistaken.support),
        chosen=fairness.ratio(right.hits + mistaken.hits, rows),
        base=fairness.ratio(right.support, rows),
        signs=fairness.association(test.train_shares, classes),
    )
