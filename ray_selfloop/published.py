"""Files that others publish: whether they lie in a library's cache, whole, or can be had from here.

Downloads nothing. Knows nothing of what is in them.
"""

import functools
import hashlib
import re
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

PATIENCE = 10.0  # s for an answer from a server
SHA256 = re.compile("[0-9a-f]{64}")


def unreachable(address: str) -> str:
    """Why nothing can be downloaded from there; empty where it answers."""
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=PATIENCE).close()
    except (OSError, HTTPException, ValueError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def missing_on_hub(repository: str, names: Sequence[str], revision: str = "main") -> str:
    """Why none of these files of the Hugging Face hub can be had; empty where one can.

    One lies in the hub's cache, whole, or the hub answers for it, with the token of this machine.
    """
    found = next(filter(None, (cached(repository, name, revision) for name in names)), None)
    if found is not None:
        return damage(found)
    reasons = [_silence(repository, name, revision) for name in names]
    return "" if "" in reasons else reasons[-1]


def _silence(repository: str, name: str, revision: str) -> str:
    """Why the hub does not answer for a file; empty where it does."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    address = hf_hub_url(repository, name, revision=revision)
    try:
        get_hf_file_metadata(address, timeout=PATIENCE)
    except Exception as error:  # the hub's library raises a dozen types, of two others besides
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        return f"{address} cannot be reached ({reason.rstrip('.')})"
    return ""


def cached(repository: str, name: str, revision: str = "main") -> Path | None:
    """A file of the hub on this machine; None where it has not been downloaded."""
    from huggingface_hub import constants, try_to_load_from_cache

    home = constants.HF_HUB_CACHE
    found = try_to_load_from_cache(repository, name, cache_dir=home, revision=revision)
    return Path(found) if isinstance(found, str) else None


def damage(path: Path) -> str:
    """What is wrong with a file of the hub's cache, which calls large ones by their sha256."""
    named = path.resolve().name
    if not SHA256.fullmatch(named) or sha256_of(path) == named:
        return ""
    return f"{path} is damaged; delete it, so that it is downloaded again"


def sha256_of(path: Path) -> str:
    """The digest of a file's content; read once while its size and time stay as they are."""
    at = path.stat()
    return _sha256(path, at.st_mtime_ns, at.st_ctime_ns, at.st_size)


@functools.cache
def _sha256(path: Path, written: int, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
