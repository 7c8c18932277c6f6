"""The first sentence: made of the primary statements' verdicts, and never more than they say."""

from collections import Counter
from dataclasses import replace

import pytest
import synthetic_arms

from ray_selfloop.claims.positive import SEEN, UNSEEN
from ray_selfloop.config.arms import ARMS, MAJORITY_KEPT
from ray_selfloop.inference.verdicts import WORDS
from ray_selfloop.report import answer, page, primary
from ray_selfloop.report.notices import notices
from ray_selfloop.report.view import Positive


@pytest.fixture(scope="module")
def view():
    return synthetic_arms.view(chains=3, generations=2)


def _with(view, *verdicts):
    """The view with these verdicts on the hypothesis, one for each group."""
    groups = synthetic_arms.GROUPS.values()
    claims = (synthetic_arms.hypothesis(g, v) for g, v in zip(groups, verdicts, strict=False))
    return replace(view, claims=tuple(claims))


@pytest.mark.parametrize(
    ("verdicts", "lead"),
    [
        (["supported"], "Yes"),
        (["supported", "supported"], "Yes"),
        (["ruled out"], "Not by 0.012"),
        (["contradicted", "ruled out"], "No"),
        (["supported", "undecided"], "In part"),
        (["contradicted", "undecided"], "Undecided in part"),
        (["ruled out", "undecided"], "Undecided in part"),
        (["supported", "contradicted"], "It depends"),
        (["undecided", "undecided"], "Undecided"),
        (["explained by accuracy"], "As accuracy explains"),
        (["exploratory"], "Exploratory"),
        (["not tested"], "No answer yet"),
        ([], "No answer yet"),
    ],
)
def test_the_answer_follows_from_the_verdicts(view, verdicts, lead):
    assert answer.answer(_with(view, *verdicts)).lead == lead


def test_other_statements_and_eq_6_alone_decide_nothing(view):
    asked = [c for c in view.claims if c.id == answer.HYPOTHESIS]
    before = answer.answer(replace(view, claims=tuple(asked)))
    assert answer.answer(view) == before
    grown = tuple(replace(v, text="A > control") for v in view.verdicts)
    assert answer.answer(replace(view, verdicts=grown)).lead == before.lead


def test_it_names_setting_effect_chains_trials_and_networks(view):
    said = answer.answer(view).text
    assert "CIFAR-20/100, from scratch: bias grew (MD +0.020 [0.0060, 0.034]" in said
    assert "mean over 3 networks, 3 chains, 180 trials" in said
    assert "whether bias grew is not decided" in said
    assert "eq. 6 finds A above that of the control in 1 and below it in 0 of 6 cases" in said


def test_without_a_control_there_is_no_answer_whatever_a_is(view):
    alone = tuple(s for s in view.scenarios if s.arm == "treatment")
    laws = tuple(replace(v, ratio=float("nan"), a=1.5) for v in view.verdicts)
    lacking = _with(view, "not tested", "not tested")
    said = answer.answer(replace(lacking, scenarios=alone, verdicts=laws))
    assert said.text.startswith("Undecided: no control")
    assert "1.5" not in said.text
    assert primary.of_answer(replace(lacking, scenarios=alone))[-1] == "undecided"


@pytest.mark.parametrize(
    "verdicts", [["undecided"], ["contradicted", "undecided"], ["exploratory"]]
)
def test_what_is_undecided_is_no_absence(view, verdicts):
    said = answer.answer(_with(view, *verdicts)).text.lower()
    assert not any(words in said for words in ("no sign", "no effect", "does not grow"))


def test_every_statement_is_counted_once_and_the_primary_ones_not_at_all(view):
    found = primary.counts(view)
    others = [c for c in view.claims if not c.primary]
    assert dict(found.verdicts) == {
        word: n for word, n in Counter(c.verdict for c in others).items() if word != "not tested"
    }
    assert found.tested + found.untested == len(others) == len(view.claims) - 2


def test_a_word_is_defined_at_its_first_place_and_nowhere_else(view):
    places = primary.defined(view)
    named = [word for found in places.values() for word, _ in found]
    assert len(named) == len(set(named))
    assert [word for word, _ in places["answer"]] == ["supported", "undecided"]
    assert {word for word, _ in places["counts"]} == {
        "contradicted", "ruled out", "explained by accuracy",
    }  # fmt: skip
    assert [word for word, _ in places["claims"]] == ["not tested"]
    assert set(named) <= set(WORDS)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A > control", "amplifies"),
        ("A < control", "mitigates"),
        ("undecided: no control", "undecided"),
        ("undecided: generator too poor to ask: label fidelity", "unconverged"),
        ("explained by accuracy", "accuracy"),
        ("exploratory", "untested"),
        ("not tested", "untested"),
    ],
)
def test_a_verdict_has_the_badge_of_its_first_words(text, kind):
    assert answer.verdict_kind(text) == kind


def _bare(view, **changes):
    """Without figures and samples."""
    one = replace(view.scenarios[0], samples=(), audits=(), **changes)
    return replace(view, scenarios=(one,), results=view.results.head(0))


def _checked(view, *verdicts):
    """The view with these positive controls, one for each group."""
    groups = synthetic_arms.GROUPS.values()
    rows = (
        Positive(g, MAJORITY_KEPT.name, "md", 0.11, 0.08, 0.14, 3, v)
        for g, v in zip(groups, verdicts, strict=False)
    )
    return replace(view, positive=tuple(rows))


def test_of_several_settings_each_control_is_told_and_eq_6_is_left_to_its_table(view):
    said = answer.answer(_checked(view, SEEN, UNSEEN)).text
    assert said.startswith("In part: ")
    assert "CIFAR-20/100, from scratch: the positive control was seen" in said
    assert "CIFAR-20/100, ImageNet weights: the positive control was not seen" in said
    assert said.count("would have been found") == 1
    assert "eq. 6" not in said


def test_nothing_is_believed_where_no_setting_shows_its_control(view):
    said = answer.answer(_checked(view, UNSEEN, UNSEEN)).text
    assert said.startswith("Not to be believed: CIFAR-20/100, from scratch: the positive control")
    (notice, *_) = (n for n in notices(_checked(view, UNSEEN)) if n.level == "failed")
    assert notice.title == "Positive control not seen"


def test_a_control_is_a_row_of_the_page_with_its_badge(view):
    bare = _bare(view)
    text, heading = page.html(_checked(bare, SEEN, UNSEEN)), "The positive control: what this sweep"
    rows = text.partition(heading)[2].partition("</table>")[0]
    assert ARMS[MAJORITY_KEPT.name].says.partition("class")[0] in rows
    assert '<span class="badge supported">seen</span>' in rows
    assert '<span class="badge contradicted">not seen</span>' in rows
    assert "positive control" not in page.html(bare)


def test_what_the_paper_says_of_other_data_stands_at_the_end_behind_one_line(view):
    before, after = (page.html(_bare(view, of_the_paper=known)) for known in (True, False))
    head = after.partition("<nav>")[0]
    assert 'about other data: <a href="#claims">at the end</a>' in head
    assert "cannot test" not in head
    assert before.index('<section id="claims">') < before.index('id="group-1"')
    assert after.index('<section id="claims">') > after.index('id="group-1"')
