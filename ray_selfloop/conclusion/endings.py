"""End states, as the page counts them; loads nothing of a sweep."""

import pandas as pd

from ray_selfloop.evaluation.states import held
from ray_selfloop.report.view import StateCount


def counted(of_trials: pd.DataFrame) -> tuple[StateCount, ...]:
    """How many trials of each scenario, classifier and generation are in which state."""
    return tuple(StateCount(*at, words) for at, words in held(of_trials).items())
