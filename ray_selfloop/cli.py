"""The command line: its verbs, their flags and their help; what is said of a word that is no verb.

What verbs do that look at a storage stands in `verbs.py`, which loads much; help, `list`,
`settings` and `validate`, which look at settings alone, are there at once. How commands end:
`command.py`.
"""

import difflib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from ray_selfloop import command
from ray_selfloop.errors import DONE, ConfigError

EXIT_CODES = (
    "Exit codes: 0 done; 1 some stages failed; 2 the input cannot be run; 75 something outside the "
    "sweep went wrong, and the same command may go on; 130 interrupted."
)
HOW = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": True}
WORDS = "[CONFIG] [a.b=value ...]"
FLAGGED = ("plan", "submit", "settings", "judge")  # verbs with flags of their own


class _Verbs(click.Group):
    """The verbs in the order of their definition; other words are answered with what to write."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise ConfigError(_no_verb(args))
        return super().resolve_command(ctx, args)


def say_version() -> None:
    """Print version and commit."""
    from ray_selfloop.conclusion.asrun import program

    print(program())


def _say_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        say_version()
        context.exit(DONE)


@click.group(
    cls=_Verbs,
    epilog=f"A verb's own help: VERB --help. {EXIT_CODES}",
    subcommand_metavar=f"VERB {WORDS}",
    options_metavar="",
    context_settings=HOW,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version,
    help="The package's version, and the git commit where there is one.",
)  # fmt: skip
def _verbs() -> None:
    """Does training on generated data amplify bias? One sweep of self-consuming loops.

    CONFIG is the path of a sweep file or the name of a shipped sweep (see `list`; without it the
    quickstart); a.b=value sets one of its settings (see `settings`).
    """


def _verb(name: str, example: str, words: str = WORDS) -> Callable[..., click.Command]:
    """A function as a verb. words: what it takes besides flags."""

    def made(work: Callable[..., int | None]) -> click.Command:
        given = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar=words)
        return _verbs.command(
            name,
            epilog=f"Example: ray-selfloop {name} {example}",
            options_metavar="[FLAGS]" if name in FLAGGED else "",
            context_settings=HOW,
        )(given(work))

    return made


@_verb("run", "quickstart storage=./results")
@click.pass_context
def _run(context: click.Context, words: Sequence[str]) -> int:
    """Run a sweep, or what is missing of it.

    As `python -m ray_selfloop.sweep` does. What is computed once is in storage=FOLDER and is not
    computed again: the same command goes on after Ctrl-C, a larger sweep adds to it.
    """
    from ray_selfloop import verbs

    assert context.parent is not None
    return verbs.run(words, [*str(context.parent.info_name).split(), "run", *words])


@_verb("validate", "my.yaml loop.generations=5", f"{WORDS} | CLUSTER_FILE")
def _validate(words: Sequence[str]) -> None:
    """Check the settings of a sweep, or a cluster file.

    All mistakes at once, each with its line. Data, weights and storage are not looked at: `plan`
    does. A cluster file (like cluster.yaml) is checked before it costs money.
    """
    from ray_selfloop.config import load
    from ray_selfloop.config.words import arguments
    from ray_selfloop.distributed.clouds import check

    config, overrides = arguments(words)
    cluster = check.read(config) if config else None
    if config and cluster is not None:
        if overrides:
            raise ConfigError(f"{overrides[0]!r}: a cluster file takes no overrides; edit {config}")
        print(*check.check(cluster, config), sep="\n")
        return
    sweep, scenarios = load.load(config, overrides)
    print(f"valid: sweep {sweep.name}, {len(scenarios)} scenarios")
    for scenario in scenarios:
        print(f"  {scenario.name}")
    if any(scenario.sweep.loop.generations == 0 for scenario in scenarios):
        print("note: with loop.generations=0 nothing is generated: no loop, no effect of it")
    print("not looked at: data, weights and storage; plan does")


@_verb("plan", "my.yaml")
@click.option(
    "--calibrate", is_flag=True, help="Measure this machine's speed for the prediction, in 2 s."
)
def _plan(words: Sequence[str], calibrate: bool) -> None:
    """What a sweep would run, what it takes, what it can show.

    Stages that are published already, what the missing ones take and when all would be done, by
    earlier stages in the storage or else by reference costs; what is declared; the smallest effects
    that more or fewer chains and seeds can detect.
    """
    from ray_selfloop import verbs

    verbs.plan(words, calibrate)


@_verb("status", "my.yaml")
def _status(words: Sequence[str]) -> None:
    """How far a sweep is: stages published and missing.

    Published is what the storage holds; of stages that failed, the error.
    """
    from ray_selfloop import verbs

    verbs.status(words)


@_verb("results", "my.yaml")
def _results(words: Sequence[str]) -> None:
    """Print the final tables of what is published.

    The same as at the end of a run; nothing is trained.
    """
    from ray_selfloop import verbs

    verbs.results(words)


@_verb("report", "my.yaml")
def _report(words: Sequence[str]) -> None:
    """Write the page and the tables again.

    report.html, results.parquet and what lies beside them; nothing is trained.
    """
    from ray_selfloop import verbs

    verbs.report(words)


@_verb("judge", "table.csv --columns run=chain epoch=generation", "TABLE")
@click.option(
    "--columns", multiple=True, metavar="THEIRS=OURS ...",
    help="Which of the table's columns is which of those above.",
)  # fmt: skip
@click.option(
    "--generations", type=int, nargs=2, default=None, metavar="FIRST LAST",
    help="The generations that A and the changes are over, without all others.",
)  # fmt: skip
@click.option(
    "--control", default=None, metavar="ARM",
    help="The arm that the others are judged against, on the same starts: no_synthetic by default.",
)  # fmt: skip
@click.option("--out", default=None, metavar="DIR", help="Beside the table by default.")
def _judge(words: Sequence[str], **flags: Any) -> None:
    """Verdicts on loops that others ran.

    TABLE: CSV or parquet. Columns chain, generation, class, group and either n, correct (counts of
    test images) or image, prediction; if there are any, arm, classifier, seed, setting. Writes
    report.html, results.parquet, effects.parquet and end_states.parquet into DIR (NAME-judged).
    """
    from pathlib import Path

    from ray_selfloop.conclusion import judged

    tables = [word for word in words if "=" not in word or os.path.isfile(word)]
    if len(tables) != 1:
        raise ConfigError(f"judge takes one table, not {len(tables)}; see judge --help")
    table, out = Path(tables[0]), flags["out"]
    renamed = [*flags["columns"], *(word for word in words if word not in tables)]
    found = judged.judged(table, renamed, flags["generations"], flags["control"])
    judged.summarise(table, found, judged.write(table, found, Path(out) if out else None))


@_verb("sync-mlflow", "my.yaml tracking.uri=http://HOST:5000")
def _sync_mlflow(words: Sequence[str]) -> int:
    """Write to MLflow what it lacks of what is published.

    To tracking.uri; without it to mlflow.db in the storage folder. What is there stays as it is.
    """
    from ray_selfloop import verbs

    return verbs.sync_mlflow(words)


@_verb("submit", "my.yaml storage=s3://BUCKET/sweep")
@click.option(
    "--retries", type=click.IntRange(min=0), default=3, show_default=True,
    help="Submit again so often where the job's process or its machine died.",
)  # fmt: skip
@click.option("--no-wait", is_flag=True, help="Submit and leave: no retries.")
@click.option("--follow", is_flag=True, help="Follow the sweep's job where one runs already.")
def _submit(words: Sequence[str], **flags: Any) -> int:
    """Run a sweep as a job of a cluster, and follow it.

    RAY_API_SERVER_ADDRESS names the cluster's dashboard (http://127.0.0.1:8265, as through an ssh
    tunnel, without it).

    Ends with the job's exit code: 0 done, 1 some stages failed, 2 bad input, 75 died or lost (the
    same command may go on), 130 stopped. Ctrl-C ends following, not the job.
    """
    from ray_selfloop import verbs
    from ray_selfloop.distributed.jobs import job

    return verbs.submit(words, job.options(**flags))


@_verb("list", "", "")
def _list(words: Sequence[str]) -> None:
    """The shipped sweeps, a line each.

    Name, question and cost; more stands in the head of each file.
    """
    from ray_selfloop.config import load

    _none(words, "list")
    for path in load.shipped():
        head = path.read_text(encoding="utf-8")
        cost = _headed(head, "Cost")
        print(f"{path.stem:22} {_headed(head, 'Question')}{f' [{cost}]' if cost else ''}")


def _headed(text: str, mark: str) -> str:
    """The first sentence that a file's head says under a mark."""
    said = re.search(rf"^# {mark}: (.*(?:\n#   .*)*)", text, re.MULTILINE)
    whole = " ".join(said[1].replace("\n#", " ").split()) if said else ""
    return re.split(r"(?<=\?) |[.;:] |\.$", re.sub(r" \([^)]*\)", "", whole))[0]


@_verb("settings", "loop.generations", "[KEY]")
@click.option("--markdown", is_flag=True, help="All of them, as in docs/settings.md.")
def _settings(words: Sequence[str], markdown: bool) -> None:
    """Type, bounds, default and meaning of a setting.

    Of a group, what stands in it; without a KEY, all groups. KEY is dotted, as on the command line.
    """
    from ray_selfloop.config import explain, reference

    _none(words[1:], "settings")
    if markdown:
        print(reference.page(), end="")
        return
    key = words[0] if words else ""
    lines = list(reference.sentences(key) if key else reference.lines())
    if not lines:
        raise ConfigError(f"{key!r} is not a setting; {explain.nearest_setting(key)}")
    print(*lines, sep="\n")


def _none(words: Sequence[str], verb: str) -> None:
    if words:
        raise ConfigError(f"{words[0]!r} is not understood; see {verb} --help")


# --- from words to a verb ------------------------------------------------------------------------


VERBS = tuple(_verbs.commands)
"""Their names."""


def _no_verb(words: Sequence[str]) -> str:
    """What is to be written instead of words whose first is no verb."""
    from ray_selfloop.config import load

    first, sweeps = words[0], [path.stem for path in load.shipped()]
    again = command.shown([*command.name(), "run", *words])
    if "/" in first or first.endswith((".yaml", ".yml")):
        load.find(first)  # says so where it is not there
    if first in sweeps or "=" in first or os.path.isfile(first):
        return f"{first!r} is not a verb; to run it: {again}"
    close = difflib.get_close_matches(first, [*VERBS, *sweeps], 1)
    if not close:
        return f"{first!r} is not a verb; verbs: {', '.join(VERBS)}"
    return f"{first!r} is not a verb; did you mean {'run ' * (close[0] in sweeps)}{close[0]}?"


def obey(words: Sequence[str]) -> int:
    """Do what a command line says; returns the exit code, or raises what stops it."""
    try:
        with _verbs.make_context(" ".join(command.name()), [*words]) as context:
            return _verbs.invoke(context) or DONE
    except click.exceptions.Exit as done:  # help, version
        return done.exit_code
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from error
