"""The base of every settings model (frozen, and a misspelt key is an error), and its paths."""

import os
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings. Every default of the program lives on a field of such a class."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @property
    def read(self) -> Self:
        """With one value in the place of several that make no difference between results."""
        return self

    def _defaulted(self, *names: str) -> Self:
        """With the defaults in the place of these fields."""
        known = {name: type(self).model_fields[name] for name in names}
        found = {name: k.get_default(call_default_factory=True) for name, k in known.items()}
        return self.model_copy(update=found)


def expanded(path: str) -> str:
    """A path with `~` and `~user` as a shell reads them; raises ValueError for an unknown user."""
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ValueError(f"there is no such user; for a folder of that name write ./{path}")
    return found


Path = Annotated[str, AfterValidator(expanded)]
"""The text of a path, of a file or folder, or of what else a setting takes in its place."""
