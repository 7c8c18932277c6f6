"""How something is measured or judged, in the keys of the stages that measure."""

from typing import Any

from pydantic import Field

from ray_selfloop.config.evaluation import JUDGING, Evaluation
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.stages.kind import Settings

APART = {"judge", "probe", "inception", "ablation"}  # evaluation settings of other stages
OF_CLAIMS = (
    "primary", "most_primary", "gap_margin", "accuracy_margin", "share_margin", "distance_margin",
    "power",
)  # fmt: skip


class Evaluated(Settings):
    """evaluation: those fields of `evaluation` that the result depends on. metrics: version of what
    is computed otherwise than the kind's own version says (see `evaluation.metrics.in_key`)."""

    evaluation: dict[str, Any]
    metrics: dict[str, int] = Field(default_factory=dict)

    @property
    def how(self) -> Evaluation:
        """By which settings it is measured; what it does not depend on is at its default."""
        return Evaluation.model_validate(self.evaluation)


def measured_with(sweep: Sweep) -> dict[str, Any]:
    """The evaluation settings that a measurement depends on."""
    return sweep.evaluation.model_dump(mode="json", exclude={*APART, "dynamics", "claims"})


def judged_with(sweep: Sweep) -> dict[str, Any]:
    """The evaluation settings that a judgement depends on; what `plan` assumes is none.

    `cas_epochs` decides nothing: without it, a `dynamics.quality` of `cas` would be refused.
    """
    found = sweep.evaluation.model_dump(mode="json", include={*JUDGING, "cas_epochs"})
    return {**found, "claims": {name: found["claims"][name] for name in OF_CLAIMS}}
