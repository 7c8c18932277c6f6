"""The base that is fine-tuned: what must be there, what its content is, and how its parts load.

A base is a folder in diffusers' layout, or the id of one on the Hugging Face hub. Only safetensors
are read, never a pickle and never program code. Knows nothing of adapters, training or sampling.
"""

import contextlib
import functools
import hashlib
import importlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ray_selfloop import published
from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.errors import DataError

MOST_BLOCKS = 10  # of a VAE, each of which but one halves the side
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")  # of a base's parts
WEIGHT_FILE = re.compile(r"\w[\w.-]*\.safetensors")
FETCHED = ("*.json", "tokenizer/*", *(f"{part}/{name}" for part, name in WEIGHTS.items()))
"""Patterns of a hub repository's files that are read: no pickles, no half-precision variants."""

SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),  # latents are not bounded
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
}


def identity(settings: StableDiffusion, generation: int = 0) -> dict[str, str]:
    """What the base's content is, for keys: of a folder a digest, of a hub id the revision.

    Raises DataError where a folder is not complete.
    """
    folder = _folder(settings)
    if folder is None:
        return {"id": settings.base, "revision": settings.revision}
    _check_folder(folder, settings)
    digest = hashlib.sha256()
    for path in _files_read(folder):
        known = path.stat()
        content = _file_digest(path, known.st_mtime_ns, known.st_size)
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return {"content": digest.hexdigest()}


def check(settings: StableDiffusion, demand: object = None) -> None:
    """Raise DataError, naming the first thing that a folder lacks and the command that fetches it.

    A hub id must lie in the hub's cache, whole and undamaged, or the hub answer for it.
    """
    folder = _folder(settings) or _cached(settings)
    if folder is not None:
        _check_folder(folder, settings)
        _check_cached(folder)
        return
    lacking = _lacking(_snapshot_here(settings))
    reason = published.missing_on_hub(settings.base, [lacking], settings.revision)
    if reason:
        raise _absent_on_hub(settings, reason)


class Base:
    """The parts of one base, each loaded anew when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """Its folder's name: of what the hub gave, the commit."""
        return self.folder.name

    @property
    def scaling(self) -> float:
        """What the VAE's latents are multiplied by before the UNet sees them."""
        return float(_config(self.folder, "vae").get("scaling_factor", 0.18215))

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Of a square picture with that side."""
        side = resolution // _vae_factor(self.folder)
        return _latent_channels(self.folder), side, side

    def unet(self) -> Any:
        """The UNet: float32, on the CPU, in eval mode, without gradients."""
        from diffusers import UNet2DConditionModel

        return self._part(UNet2DConditionModel, "unet")

    def vae(self, device: torch.device) -> Any:
        """The VAE, like the UNet but on ``device``."""
        from diffusers import AutoencoderKL

        return placed(self._part(AutoencoderKL, "vae"), device, torch.float32)

    def _part(self, kind: Any, name: str) -> Any:
        with _quiet(), _loading(self.folder / name):
            loaded = kind.from_pretrained(
                self.folder,
                subfolder=name,
                torch_dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
            )
        return loaded.eval().requires_grad_(False)

    @torch.no_grad()
    def embeddings(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """The text encoder's ``(p, tokens, d)`` float32 on ``device``; it is dropped at once.

        Raises DataError for a prompt with more tokens than it reads.
        """
        from diffusers import StableDiffusionPipeline

        with _quiet(), _loading(self.folder / "text_encoder"):
            texts = StableDiffusionPipeline.from_pretrained(
                self.folder,
                **dict.fromkeys(("unet", "vae", "safety_checker", "feature_extractor")),
                requires_safety_checker=False,
                use_safetensors=True,
                local_files_only=True,
            )
        ids = [self._tokens(texts.tokenizer, prompt) for prompt in prompts]
        encoder = texts.text_encoder.float().to(device).eval()
        embedded: Tensor = encoder(torch.tensor(ids, device=device))[0]
        return embedded

    def _tokens(self, tokenizer: Any, prompt: str) -> list[int]:
        most = tokenizer.model_max_length
        ids: list[int] = tokenizer(prompt, padding="max_length", max_length=most).input_ids
        if len(ids) > most:
            raise DataError(
                f"the prompt {prompt!r} has {len(ids)} tokens, and the text encoder of "
                f"{self.folder} reads {most}: shorten generator.prompt or the class name"
            )
        return ids

    def noise_schedule(self) -> Any:
        """The forward diffusion (noise levels, prediction type) that the base was trained with."""
        from diffusers import DDPMScheduler

        with _quiet():
            return DDPMScheduler.from_config(_config(self.folder, "scheduler"))

    def solver(self, kind: str) -> Any:
        """A solver ``settings.sampler`` with the base's noise levels."""
        import diffusers

        name, options = SOLVERS[kind]
        with _quiet():
            return getattr(diffusers, name).from_config(
                _config(self.folder, "scheduler"), **options
            )


def placed(net: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The network on ``device`` in ``dtype``, in the memory format that is fast there."""
    with _quiet():
        if device.type == "cuda":
            return net.to(device, dtype, memory_format=torch.channels_last)
        return net.to(device, dtype)


def open_base(settings: StableDiffusion) -> Base:
    """The base, complete and checked; a hub id is taken from the local cache, else downloaded.

    Raises DataError. A folder is opened without any use of the network.
    """
    folder = _folder(settings) or _downloaded(settings)
    _check_folder(folder, settings)
    return Base(folder)


def _folder(settings: StableDiffusion) -> Path | None:
    """The folder that ``base`` names; None for a hub id."""
    folder = Path(settings.base).expanduser()
    if folder.is_dir():
        return folder
    if HUB_ID.fullmatch(settings.base):
        return None
    raise DataError(f"generator.base: there is no folder {folder}; {_command(folder)}")


def _command(folder: Path) -> str:
    """How a folder is filled; Stable Diffusion 1.5 stands for whatever base was meant."""
    hub_id = StableDiffusion.model_fields["base"].default
    return f"fetch one with: hf download {hub_id} --local-dir {folder} {_includes()}"


def _includes() -> str:
    return " ".join(f"--include '{pattern}'" for pattern in FETCHED)


def _cached(settings: StableDiffusion) -> Path | None:
    """What the hub's cache has of a hub id; None where that is not a whole base."""
    here = _snapshot_here(settings)
    return None if _lacking(here) else here


def _snapshot_here(settings: StableDiffusion) -> Path | None:
    """What the hub's cache has of a hub id, if anything."""
    with contextlib.suppress(OSError):
        return Path(_snapshot(settings, local_files_only=True))
    return None


def _check_cached(folder: Path) -> None:
    """The hub's cache calls its files by their content; a folder of the user's has any names."""
    reasons = (published.damage(folder / name) for name in _needed(folder))
    reason = next(filter(None, reasons), "")
    if reason:
        raise DataError(f"generator.base: {reason}")


def _lacking(here: Path | None) -> str:
    """The first file that a part of a base lacks; empty where it is whole."""
    if here is None:
        return "model_index.json"
    return next((name for name in _needed(here) if not (here / name).is_file()), "")


def _downloaded(settings: StableDiffusion) -> Path:
    cached = _cached(settings)
    if cached is not None:
        return cached
    try:
        with _quiet():
            return Path(_snapshot(settings))
    except (OSError, ValueError) as error:
        raise _absent_on_hub(settings, type(error).__name__) from error


def _snapshot(settings: StableDiffusion, **options: Any) -> str:
    import huggingface_hub

    return huggingface_hub.snapshot_download(
        settings.base, revision=settings.revision, allow_patterns=list(FETCHED), **options
    )


def _absent_on_hub(settings: StableDiffusion, reason: str) -> DataError:
    return DataError(
        f"generator.base {settings.base!r} is no folder here, is not in the local hub cache and "
        f"cannot be downloaded ({reason}); where there is a network: hf download {settings.base} "
        f"--revision {settings.revision} {_includes()}"
    )


def _check_folder(folder: Path, settings: StableDiffusion) -> None:
    """Files first, then what their configs say."""
    for name in _needed(folder):
        if not (folder / name).is_file():
            raise DataError(f"generator.base: {_absent(folder, name)}; {_command(folder)}")
    found = _config(folder, "").get("_class_name")
    if found != "StableDiffusionPipeline":
        shown = f"{found}"[:80]
        raise DataError(f"generator.base: {folder} holds a {shown}, no StableDiffusionPipeline")
    _check_brings_no_code(folder)
    taken, given = _config(folder, "unet").get("in_channels", 4), _latent_channels(folder)
    if taken != given:
        raise DataError(
            f"generator.base: the UNet in {folder} takes {taken!r:.80} channels and the VAE gives "
            f"{given}; an inpainting or depth base cannot be used"
        )
    kind = _config(folder, "scheduler").get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise DataError(
            f"generator.base: {folder} predicts {kind!r:.80}, not epsilon or v_prediction"
        )
    if settings.resolution % _vae_factor(folder):
        raise DataError(
            f"generator.resolution {settings.resolution} is not a multiple of "
            f"{_vae_factor(folder)}, by which the VAE of {folder} shrinks pictures"
        )


def _check_brings_no_code(folder: Path) -> None:
    """diffusers imports a part's library by its name, and a file of that name beside the part."""
    for part, named in _config(folder, "").items():
        if isinstance(named, list) and (not named or named[0] not in LIBRARIES):
            raise DataError(
                f"generator.base: {folder / 'model_index.json'} takes {part} from {named!r:.100}, "
                "not from diffusers or transformers"
            )
    code = sorted(folder.rglob("*.py"))
    if code:
        raise DataError(f"generator.base: {code[0]} is program code, which is never run; remove it")


def _needed(folder: Path) -> Iterator[str]:
    """Files without which the base cannot be loaded, in the order in which they are missed."""
    yield "model_index.json"
    for part, weights in WEIGHTS.items():
        yield f"{part}/config.json"
        index = folder / part / f"{weights}.index.json"
        if not index.is_file():
            yield f"{part}/{weights}"
            continue
        yield f"{part}/{index.name}"
        yield from sorted({f"{part}/{name}" for name in _shards(index)})
    yield "tokenizer/tokenizer_config.json"
    if not (folder / "tokenizer/tokenizer.json").is_file():
        yield "tokenizer/vocab.json"
        yield "tokenizer/merges.txt"
    yield "scheduler/scheduler_config.json"


def _shards(index: Path) -> Collection[str]:
    """The files that an index names, each in the index's own folder."""
    named = _json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise DataError(f"generator.base: {index} has no weight_map")
    for name in named.values():
        if not isinstance(name, str) or not WEIGHT_FILE.fullmatch(name):
            raise DataError(
                f"generator.base: {index} names {name!r:.100}, no .safetensors file beside it"
            )
    return named.values()


def _files_read(folder: Path) -> list[Path]:
    """Files on which what is loaded depends."""
    tokenizer = {path.relative_to(folder).as_posix() for path in folder.glob("tokenizer/*")}
    return [folder / name for name in sorted({*_needed(folder), *tokenizer})]


def _absent(folder: Path, name: str) -> str:
    path = folder / name
    if not path.parent.is_dir():
        return f"{folder} has no folder {path.parent.name}/"
    pickles = sorted(p.name for p in path.parent.iterdir() if p.suffix in PICKLES)
    if name.endswith(".safetensors") and pickles:
        return f"{folder} has no {name}, only {pickles[0]}, and pickled weights are never read"
    return f"{folder} has no {name}"


def _config(folder: Path, part: str) -> dict[str, Any]:
    name = {"": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}
    return _json(folder / name.get(part, f"{part}/config.json"))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"generator.base: {path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"generator.base: {path} cannot be read: it holds no keys and values")
    return found


def _latent_channels(folder: Path) -> int:
    found = _config(folder, "vae").get("latent_channels", 4)
    if not isinstance(found, int) or found < 1:
        raise DataError(f"generator.base: latent_channels of the VAE in {folder} is {found!r:.80}")
    return found


def _vae_factor(folder: Path) -> int:
    """How many pixels of a side are one latent's."""
    blocks = _config(folder, "vae").get("block_out_channels", [64])
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= MOST_BLOCKS:
        raise DataError(
            f"generator.base: block_out_channels of the VAE in {folder} is {blocks!r:.80}"
        )
    return int(2 ** (len(blocks) - 1))


@functools.lru_cache(maxsize=256)
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    """Of the content; gigabytes are read once per process while time and size stay as they are."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a part's files is one DataError that names the part."""
    try:
        yield
    except Exception as error:  # the libraries raise a dozen types for a bad file
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise DataError(f"generator.base: {path} cannot be loaded: {reason[:300]}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither bars nor warnings of the libraries while they load; their settings come back."""
    names = "diffusers", "transformers"
    logs = [importlib.import_module(f"{name}.utils.logging") for name in names]
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
