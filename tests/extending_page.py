"""The examples of docs/extending.md, which the tests run as they stand there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def example(name: str) -> str:
    """The one block whose fence bears this name behind its language."""
    (text,) = re.findall(rf"^```\w+ {name}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    return str(text)
