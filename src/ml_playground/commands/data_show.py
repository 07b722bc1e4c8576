"""`mlp data show`: rows as training reads them, token by token, with what each weighs as a target."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.data_show_page import page_of
from ml_playground.commands.data_show_text import Look, legend, row_lines, summary
from ml_playground.commands.options import ConfigFiles, Json, Sets, as_typed, complete_experiment
from ml_playground.configuration.fingerprint import existing_data, prepared_folder
from ml_playground.configuration.loading import CONFIG, experiment_names, load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.humanise import json_text
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import all_runs, find_run, is_run, runs_folder
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats
from ml_playground.data_pipeline.image_dataset import PreparedImages
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, TOKENIZER_FOLDER, open_prepared
from ml_playground.data_pipeline.shown_rows import ShownRow, ShownRows, rows_to_show
from ml_playground.sampling.recorded import recorded_job

LOAD_TOKENIZER = "ml_playground.tokenization.loading:load_tokenizer"
FEW = 3

Target = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT|RUN|FOLDER",
        help="An experiment whose data are prepared, a run, or a folder of prepared data.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="train, val or test.")]
RowNumbers = Annotated[
    list[int] | None,
    typer.Option(
        "--row", metavar="N", min=0, help="Show this row, counted from 0; may be repeated.", show_default=False
    ),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show so many rows from the beginning.")]
WithIds = Annotated[bool, typer.Option("--ids", help="Show a line for each token: its place, id, weight and text.")]
WithBorders = Annotated[bool, typer.Option("--borders", help="Show where each token ends.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the rows as a page there instead.", show_default=False),
]


def show(
    target: Target,
    split: Split = "train",
    row: RowNumbers = None,
    limit: Limit = FEW,
    ids: WithIds = False,
    borders: WithBorders = False,
    html: Html = None,
    sets: Sets = None,
    files: ConfigFiles = None,
    json_output: Json = False,
) -> None:
    """Show rows of prepared data as training reads them: each token, coloured by what it weighs as a target.

    On a terminal targets are green, in a pipe they stand in brackets; what is read and never a target stays plain. Rows are those of the
    [data] of the experiment or run, packed or cut as these say and before an epoch shuffles them; of a folder chats are shown whole.
    """
    if json_output and (html is not None or ids or borders):
        raise ConfigError("--json prints everything there is to know of tokens; leave --html, --ids and --borders out.")
    if html is not None and (ids or borders):
        raise ConfigError("--ids and --borders are for the terminal; the page of --html has a switch for each.")
    folder, job = _meant(target, sets or (), files or ())
    prepared = open_prepared(folder)
    if isinstance(prepared, PreparedImages):
        raise ConfigError(f"{target} holds images, which have no tokens; mlp data ledger {target} counts them.")
    tokenizer = load_object(LOAD_TOKENIZER)(folder / TOKENIZER_FOLDER)
    found = rows_to_show(prepared, split, None if job is None else job.data, tokenizer)
    chosen = _chosen(found, split, row, limit)
    chats = isinstance(prepared, PreparedChats)
    said = summary(len(found), found.lengths, split, chats=chats)
    if json_output:
        values = {"folder": str(folder), "split": split, "rows": len(found), "shown": list(map(asdict, chosen))}
        typer.echo(json_text(values))
    elif html is not None:
        title = folder.name if job is None else job.name
        page = page_of(title, said, chosen, len(found), found.lengths, noun="chat" if chats else "window")
        write_file(html, page)
        typer.echo(f"wrote {html}")
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        look = Look(colour, borders, sys.stdout.encoding or "utf-8")
        typer.echo("\n".join([said, legend(look), ""]))
        for one in chosen:
            typer.echo("\n".join(row_lines(one, len(found), look, ids=ids)))


def _meant(target: str, sets: Sequence[str], files: Sequence[Path]) -> tuple[Path, JobConfig | None]:
    """The folder of the data, and the job that says how rows are made of them; none for a folder.

    Raises:
        ConfigError: There is no such experiment; settings do not go with a folder or a run.
        DataError: The data are not prepared.
        RunError: No run answers to it.
    """
    folder = Path(target)
    is_folder = (folder / MANIFEST_NAME).is_file()
    if not is_folder and not _is_run(target):
        job = load(target, sets=sets, files=files).job
        prepared = prepared_folder(job.prepare)
        if not prepared.is_dir():
            raise DataError(
                f"The data of {job.name!r} are not prepared; run: mlp prepare {as_typed(target, sets, files)}"
            )
        return prepared, job
    if sets or files:
        what = "a folder of prepared data" if is_folder else "a run, whose settings are recorded"
        raise ConfigError(f"{target} is {what}, so --set and --config have no effect; leave them out.")
    if is_folder:
        return folder, None
    job = recorded_job(find_run(target).config)
    return existing_data(job), job


def _is_run(target: str) -> bool:
    """Whether a run is meant and no experiment, whose settings may have changed since."""
    folder = Path(target)
    if is_run(folder):
        return True
    if target in experiment_names() or (folder / CONFIG).is_file():
        return False
    experiment, _, beginning = target.rpartition("/")
    return bool(beginning) and any(
        target == run.path.parent.name
        or (run.path.name.startswith(beginning) and experiment in ("", run.path.parent.name))
        for run in all_runs(runs_folder())
    )


def _chosen(rows: ShownRows, split: str, numbers: Sequence[int] | None, limit: int) -> list[ShownRow]:
    if not numbers:
        return [rows[number] for number in range(min(limit, len(rows)))]
    for number in numbers:
        if number >= len(rows):
            raise ConfigError(f"There is no row {number} of {split}: it has {len(rows)}, counted from 0.")
    return [rows[number] for number in numbers]
