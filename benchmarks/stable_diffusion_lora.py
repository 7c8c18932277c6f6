"""Speed and memory of a LoRA fine-tune at Stable Diffusion 1.5's size, beside diffusers' example.

    python benchmarks/stable_diffusion_lora.py CONFIGS \\
        --example diffusers/examples/text_to_image/train_text_to_image_lora.py \\
        --precision bfloat16 --batch 4 --steps 100 --repeats 2

CONFIGS is a folder of a base in diffusers' layout of which only the configs and the tokenizer are
read (1.5's serve); the weights are random, which changes neither speed nor memory. The example is
diffusers' own script, of the installed version, and needs the package `datasets` besides ours.

Each run is a process of its own, and the runs alternate. All see the same pictures (smooth noise,
JPEG files), captions, resolution, batch, precision, rank, learning rate and clipping. The example
runs as it is, by accelerate's defaults for one process with `--mixed_precision`, its pictures read
by `--loader-workers` processes; ours trains from latents that are written first, told apart in the
table. The clock runs from the end of optimiser step `--warmup` to the end of the last, in both by
the same hook on torch's optimisers, with the device synchronised at these two steps alone. Peak
memory is torch's allocated maximum on the device: during those steps, and since the process began.
On the CPU it is the process's largest resident size.

`--tiny` shrinks the networks, so that the script itself can be tried on a CPU in a minute or two:
its figures say nothing. Without `--example` ours runs alone.
"""

import argparse
import hashlib
import json
import platform
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.generators.diffusion.latents import Cached, write_latents
from ray_selfloop.generators.diffusion.stable_diffusion import Examples, Pictures, train
from ray_selfloop.generators.diffusion.workers import ALONE

CAPTION = "a photo of a beaver"
MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
TINY: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [32, 32, 64, 64],
        "layers_per_block": 1,
        "cross_attention_dim": 32,
    },
    "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
    "text_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}


def make_base(configs: Path, folder: Path, tiny: bool) -> None:
    """A base with random weights in the sizes that the configs say."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    shrunk = TINY if tiny else {part: {} for part in TINY}
    text = CLIPTextConfig.from_pretrained(configs / "text_encoder", **shrunk["text_encoder"])
    nets = {
        part: kind.from_config({**kind.load_config(configs / part), **shrunk[part]})
        for part, kind in {"unet": UNet2DConditionModel, "vae": AutoencoderKL}.items()
    }
    scheduler = StableDiffusionPipeline.load_config(configs)["scheduler"][1]
    import diffusers

    StableDiffusionPipeline(
        **nets,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer.from_pretrained(configs / "tokenizer"),
        scheduler=getattr(diffusers, scheduler).from_pretrained(configs / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def make_pictures(folder: Path, count: int, side: int) -> None:
    """JPEG files of smooth noise, with captions as `datasets` reads them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = []
    for i in range(count):
        coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        name = f"{i:05}.jpg"
        Image.fromarray(coarse).resize((side, side)).save(folder / name, quality=95)
        lines.append(json.dumps({"file_name": name, "text": CAPTION}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


class Clock:
    """Times the optimiser's steps ``first + 1 .. last`` of this process, and notes its memory."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.step = first, last, 0
        self.found: dict[str, float] = {}
        register_optimizer_step_post_hook(self._stepped)

    def _stepped(self, *_: Any) -> None:
        self.step += 1
        if self.step == self.first:
            self.found["before"] = _peak()
            _reset_peak()
            self._start = time.perf_counter()
        elif self.step == self.last:
            steps = self.last - self.first
            during = _peak()
            self.found["steps_per_second"] = steps / (time.perf_counter() - self._start)
            self.found["peak"] = during
            self.found["whole_peak"] = max(during, self.found["before"])


def _peak() -> float:
    """GB, after the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


class Files:
    """The JPEG files as an image source."""

    def __init__(self, folder: Path, side: int) -> None:
        self.paths = sorted(folder.glob("*.jpg"))
        self.shape = len(self.paths), 3, side, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any) -> Any:
        pictures = [np.asarray(Image.open(self.paths[row]).convert("RGB")) for row in rows]
        return np.stack(pictures).transpose(0, 3, 1, 2)


def run_ours(work: Path, options: argparse.Namespace, clock: Clock) -> None:
    """Latents, then the fine-tune."""
    settings = StableDiffusion(
        base=str(work / "base"),
        prompt="a photo of a {}",
        rank=options.rank,
        resolution=options.resolution,
        steps=clock.last,
        batch_size=options.batch,
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
        compile=options.compile,
        check_every=clock.last,
        checkpoint_every=0,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    files = Files(work / "pictures", options.resolution)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        write_latents(files, settings, Path(name), device)
        clock.found["latents_per_second"] = len(files) / (time.perf_counter() - start)
        latents = Cached([(Path(name), np.arange(len(files)))])
        pictures = Pictures(latents, np.zeros(len(files), np.int64))
        examples = Examples(pictures, None, ("beaver",))
        clock.found["loss"] = train(examples, settings, 0, device, None, None, ALONE).history[-1][
            "train_loss"
        ]


def run_example(work: Path, options: argparse.Namespace, clock: Clock) -> None:
    """The example's script, unchanged, in this process."""
    with tempfile.TemporaryDirectory() as name:
        said: dict[str, object] = {
            "pretrained_model_name_or_path": work / "base",
            "train_data_dir": work / "pictures",
            "image_column": "image",
            "caption_column": "text",
            "resolution": options.resolution,
            "train_batch_size": options.batch,
            "max_train_steps": clock.last,
            "learning_rate": 1e-4,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "max_grad_norm": 1.0,
            "rank": options.rank,
            "seed": 0,
            "mixed_precision": MIXED[options.precision],
            "dataloader_num_workers": options.loader_workers,
            "checkpointing_steps": 10**9,
            "cache_dir": Path(name) / "cache",
            "output_dir": Path(name) / "out",
        }
        words = [word for key, value in said.items() for word in (f"--{key}", str(value))]
        flags = ["--gradient_checkpointing"] if options.gradient_checkpointing else []
        sys.argv = [str(options.example), *words, "--center_crop", *flags]
        runpy.run_path(str(options.example), run_name="__main__")


def child(options: argparse.Namespace) -> None:
    """One run; its figures go to a file."""
    clock = Clock(options.warmup, options.warmup + options.steps)
    run = {"ours": run_ours, "example": run_example}[options.child]
    run(options.work, options, clock)
    (options.work / "found.json").write_text(json.dumps(clock.found))


def measured(kind: str, work: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one run in a process of its own."""
    own = ["--child", kind, "--work", str(work)]
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], *own], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"the run of {kind} failed:\n{done.stderr[-4000:]}")
    found: dict[str, float] = json.loads((work / "found.json").read_text())
    print(f"{kind}: {found}", flush=True)
    return found


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Medians over the repeats."""
    rows = [
        "| run | steps/s | peak GB, steps | peak GB, whole | all steps/s |",
        "|---|---|---|---|---|",
    ]
    middle = {
        kind: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for kind, runs in results.items()
    }
    for kind, found in middle.items():
        each = ", ".join(f"{run['steps_per_second']:.3f}" for run in results[kind])
        rows.append(
            f"| {kind} | {found['steps_per_second']:.3f} | {found['peak']:.2f} | "
            f"{found['whole_peak']:.2f} | {each} |"
        )
    rows.append(f"\nLatents, once per set: {middle['ours']['latents_per_second']:.1f} pictures/s.")
    if "example" in middle:
        ratio = middle["ours"]["steps_per_second"] / middle["example"]["steps_per_second"]
        rows.append(f"Ours over the example: {ratio:.2f} x its speed.")
    return "\n".join(rows)


def described(options: argparse.Namespace) -> str:
    """What was run where."""
    import diffusers

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else platform.processor() or "CPU"
    facts = [
        device,
        f"torch {torch.__version__}, diffusers {diffusers.__version__}",
        f"resolution {options.resolution}, batch {options.batch}, {options.precision}, "
        f"rank {options.rank}, steps {options.steps} after {options.warmup}",
    ]
    if options.example:
        digest = hashlib.sha256(options.example.read_bytes()).hexdigest()[:12]
        facts.append(f"example sha256 {digest}, {options.loader_workers} loader workers")
    extras = [name for name in ("tiny", "compile", "gradient_checkpointing") if vars(options)[name]]
    return "; ".join([*facts, *extras])


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", type=Path)
    parser.add_argument("--example", type=Path, default=None)
    parser.add_argument("--precision", choices=list(MIXED), default="bfloat16")
    parser.add_argument("--resolution", type=int, default=None, help="512; with --tiny 64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--loader-workers", type=int, default=4)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true", help="ours by torch.compile")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="also write the table there")
    parser.add_argument("--child", choices=["ours", "example"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.resolution = options.resolution or (64 if options.tiny else 512)
    return options


def main() -> None:
    """Make base and pictures, run both in turns, print the table."""
    options = parsed()
    if options.child:
        child(options)
        return
    kinds = ["example", "ours"] if options.example else ["ours"]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_base(options.configs, work / "base", options.tiny)
        make_pictures(work / "pictures", options.pictures, options.resolution)
        results: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind in kinds:
                results[kind].append(measured(kind, work, options))
    text = f"{described(options)}\n\n{table(results)}\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
