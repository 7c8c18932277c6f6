"""The first sentence: made of the treatment's verdicts, and never more than they say."""

from collections import Counter
from dataclasses import replace

import pytest
import synthetic_arms

from ray_selfloop.report import answer


@pytest.fixture(scope="module")
def view():
    return synthetic_arms.view(chains=3, generations=2)


def _with(view, verdicts, laws):
    """The view with these hypothesis verdicts and eq. 6 texts, in this order."""
    first = answer.hypothesis(view.claims)[: len(verdicts)]
    claims = [replace(c, verdict=v, reason="") for c, v in zip(first, verdicts, strict=True)]
    treated = answer.of_treatment(view)[: len(laws)]
    texts = [replace(v, text=text) for v, text in zip(treated, laws, strict=True)]
    return replace(view, claims=tuple(claims), verdicts=tuple(texts))


@pytest.mark.parametrize(
    ("verdicts", "laws", "lead"),
    [
        (["supported"], ["A > 1"], "Yes"),
        (["supported", "undecided"], [], "In part"),
        (["supported", "contradicted"], [], "It depends"),
        (["contradicted"], ["A < 1"], "No"),
        (["undecided"], ["A > 1"], "Undecided"),  # eq. 6 has no control: claims come first
        (["contradicted", "undecided"], [], "No sign of it"),
        ([], ["A < 1", "undecided"], "No sign of it"),
        (["undecided"], ["undecided: one chain only"], "Undecided"),
        (["explained by accuracy"], [], "Accuracy alone explains what changed"),
        (["not tested"], [], "No answer yet"),
        ([], [], "No answer yet"),
    ],
)
def test_the_answer_follows_from_the_verdicts(view, verdicts, laws, lead):
    assert answer.answer(_with(view, verdicts, laws)).lead == lead


def test_it_says_how_many_chains_who_amplifies_and_why_the_rest_is_undecided(view):
    said = answer.answer(view).text
    assert "over 3 chains per scenario" in said
    assert "bias grows for lenet (CIFAR-20/100, from scratch)" in said
    assert "the hypothesis is supported in 2 of 12 tests" in said
    assert "A > 1 in 1 and A < 1 in 0 of 6 cases" in said
    claims = [c.reason for c in answer.hypothesis(view.claims) if c.verdict == "undecided"]
    laws = [v.text for v in answer.of_treatment(view) if v.text.startswith("undecided")]
    assert f"{len(claims) + len(laws)} verdicts remain undecided" in said
    unconverged = sum("generator not converged" in why for why in (*claims, *laws))
    assert f"generator not converged ({unconverged})" in said


def test_control_arms_do_not_answer_the_question(view):
    controls = [v for v in view.verdicts if v not in answer.of_treatment(view)]
    grown = tuple(replace(v, text="A > 1") for v in controls)
    before = answer.answer(replace(view, verdicts=tuple(answer.of_treatment(view))))
    after = answer.answer(replace(view, verdicts=(*answer.of_treatment(view), *grown)))
    assert len(grown) == 12
    assert (after.lead, after.kind) == (before.lead, before.kind)
    said = ", without generated data in 6 and 0 of 6"
    assert after.rest == before.rest.replace("in a scenario)", f"in a scenario){said}")


def test_every_claim_is_counted_once(view):
    found = dict(answer.counts(view.claims))
    assert sum(found.values()) == len(view.claims)
    assert found == Counter(c.verdict for c in view.claims)


def test_reasons_that_differ_in_their_numbers_alone_are_one(view):
    verdicts = tuple(
        replace(v, text=f"undecided: interval [{k}, 2] is wide")
        for k, v in enumerate(view.verdicts)
    )
    assert "interval (6)" in answer.answer(replace(view, claims=(), verdicts=verdicts)).text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A > 1", "amplifies"),
        ("A < 1", "mitigates"),
        ("undecided: one chain only", "undecided"),
        ("undecided: generator not converged", "unconverged"),
        ("explained by accuracy", "accuracy"),
        ("not tested", "untested"),
    ],
)
def test_a_verdict_has_the_badge_of_its_first_words(text, kind):
    assert answer.verdict_kind(text) == kind


def test_without_a_control_arm_the_reason_is_said(view):
    why = {"verdict": "not tested", "reason": "needs the arm no_synthetic"}
    claims = tuple(replace(c, **why) for c in view.claims)
    said = answer.answer(replace(view, claims=claims))
    assert "the hypothesis was not tested: needs the arm no_synthetic" in said.text
    none = answer.answer(replace(view, claims=claims, verdicts=()))
    assert none.lead == "No answer yet"
    assert "needs the arm no_synthetic" in none.text
