"""What a sweep or its data call things cannot become part of the page's own HTML."""

from dataclasses import replace

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
