"""What a sweep or its data call things becomes neither the page's own HTML nor a file's name."""

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic_sweep

from ray_selfloop.report import page


def test_what_looks_like_html_is_text_on_the_page() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    view = synthetic_sweep.view()
    old = view.scenarios[1]
    new = replace(
        old, name=evil, title=evil, axes={evil: evil}, class_names=(evil, *old.class_names[1:])
    )
    results = view.results.replace({old.name: evil, old.class_names[0]: evil})
    texts = dict.fromkeys(("name", "question", "config_yaml"), evil)
    html = page.html(
        replace(view, scenarios=(new,), results=results, warnings=(evil,), verdicts=(), **texts)
    )
    assert evil not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<img src=x" not in html


@pytest.mark.parametrize(
    "names", [("base=a/b", "base=a?b"), ("é" * 200 + "1", "é" * 200 + "2"), ("..", "../..")]
)
def test_scenarios_of_any_name_have_pictures_of_their_own(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    view = synthetic_sweep.view(generations=1)
    renamed = dict(zip((scenario.name for scenario in view.scenarios), names, strict=True))
    scenarios = tuple(replace(s, name=renamed[s.name]) for s in view.scenarios)
    results = view.results.assign(scenario=view.results["scenario"].map(renamed))
    folder = tmp_path / "figures"
    written = page.artifacts(replace(view, scenarios=scenarios, results=results), folder)
    assert set(written) == set(names)
    files = [path for paths in written.values() for path in paths]
    assert len(set(files)) == len(files) > 2
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(files)
    assert all(path.is_relative_to(folder) for path in files)
