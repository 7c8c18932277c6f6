"""Passwords are never shown. Loads nothing: it serves while everything else is being loaded."""

import re


def masked(text: str) -> str:
    """A text in which the password of an address, `scheme://user:password@host`, is `***`.

    So are a token in place of both, and a password among the parameters.
    """
    text = re.sub(r"(://[^/:\s]*):\S*@", r"\1:***@", text)  # user and password may hold an @
    text = re.sub(r"(https?://)[^/?#:@\s]+@", r"\1***@", text)
    return re.sub(r"([?&](?:password|token)=)[^&\s']*", r"\1***", text)
