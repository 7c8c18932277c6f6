"""Which words on A a positive control lets stand."""

from types import SimpleNamespace
from typing import Any

import pytest

from ray_selfloop.claims.positive import SEEN, UNSEEN
from ray_selfloop.conclusion import amplifications as room
from ray_selfloop.stages import claims


@pytest.mark.parametrize(("verdict", "said"), [(SEEN, "A > control"), (UNSEEN, room.VOID)])
def test_where_the_positive_control_was_not_seen_nothing_is_said_of_a(
    monkeypatch: pytest.MonkeyPatch, verdict: str, said: str
) -> None:
    checks = {"positive": [{"scenario_group": "biased", "verdict": verdict}]}
    words = [{"scenario": name, "text": "A > control", "a": 1.2} for name in ("biased", "other")]

    def published(plan: Any, kind: Any) -> list[tuple[None, Any]]:
        summary = checks if kind is claims.KIND else {"verdicts": words}
        return [(None, SimpleNamespace(summary=summary))]

    monkeypatch.setattr(room, "published", published)
    monkeypatch.setattr(room.arms, "group", lambda scenario: scenario.name)
    plan: Any = SimpleNamespace(scenarios=[SimpleNamespace(name=n) for n in ("biased", "other")])
    found = [*room.amplifications(plan)]
    assert [one["text"] for one in found] == [said, "A > control"]
    assert [one["a"] for one in found] == [1.2, 1.2]  # the number stays
