"""Trials by end state: how many of a generation are in which, and which means are left out for it.

A mean over chains that have come to different ends describes none of them. Reads the results table
and a table of states, a row for each trial; what the states are is decided in `end_states`.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.end_states import CHANCE, ONE_CLASS, SHORTCUT, STATES, WORKING

OF_STATE = {
    SHORTCUT: metrics.BY_SHORTCUT,
    ONE_CLASS: metrics.ONE_CLASS,
    CHANCE: metrics.AT_CHANCE,
}
COUNTED = (
    metrics.COLLAPSED, metrics.TRIALS, metrics.TRIALS_ACCURACY, metrics.CHAINS, *OF_STATE.values(),
)  # fmt: skip
PLACE = ["scenario", "classifier", "generation", "loop_seed", "seed"]
Held = dict[tuple[str, str, int], dict[str, int]]


def of_results(results: pd.DataFrame) -> pd.DataFrame:
    """A row for each trial: its place, its state and whether it is collapsed."""
    names = {metric.name: state for state, metric in OF_STATE.items()}
    wanted = results["metric"].isin([*names, metrics.COLLAPSED.name]) & results["seed"].notna()
    wide = results[wanted].pivot(index=PLACE, columns="metric", values="value")
    wide = wide.reindex(columns=[*names, metrics.COLLAPSED.name]).dropna().reset_index()
    met = [wide[name] == 1.0 for name in names]
    state = np.select(met, list(names.values()), WORKING)
    return wide[PLACE].assign(state=state, collapsed=wide[metrics.COLLAPSED.name] == 1.0)


def held(states: pd.DataFrame) -> Held:
    """Scenario, classifier and generation -> state -> trials in it, in the order of the states."""
    counted = states.groupby(["scenario", "classifier", "generation", "state"]).size()
    found: Held = {}
    for state in STATES:
        for (scenario, classifier, generation, word), n in counted.items():
            if word == state:
                found.setdefault((scenario, classifier, generation), {})[word] = int(n)
    return found


def told(words: Mapping[str, int]) -> str:
    """``2 working, 14 by the shortcut, 9 one class only``."""
    return ", ".join(f"{n} {word}" for word, n in words.items())


def mixed(states: pd.DataFrame) -> Held:
    """Where trials are in different states."""
    return {key: words for key, words in held(states).items() if len(words) > 1}


def of_one_state(
    results: pd.DataFrame, states: pd.DataFrame, but: Collection[str] = ()
) -> pd.DataFrame:
    """Without means over trials in different states; but: metrics whose means stay as they are."""
    stay = [*but, *(one.name for one in COUNTED)]
    mean = results["loop_seed"].isna() & results["seed"].isna() & results["generation"].notna()
    mean &= ~results["metric"].isin(stay)
    places = zip(results["scenario"], results["classifier"], results["generation"], strict=True)
    different = mixed(states)
    apart = np.array([place in different for place in places], np.bool_)
    return results[~(mean & apart)]
