"""The table of commands: nothing of them is imported until one runs."""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """One command: where its function is, and its line in the help."""

    path: str
    """`module:function`; the module is imported when the command runs."""
    help: str
    """One line."""


class Group(NamedTuple):
    """Commands under one word."""

    help: str
    """One line."""
    rows: Mapping[str, Row]
    """Name -> command."""


COMMANDS: Mapping[str, Mapping[str, Row | Group]] = {
    "From text to a model": {
        "run": Row("ml_playground.commands.run:run", "Prepare, train, sample and report: the whole way in one go."),
        "prepare": Row(
            "ml_playground.commands.prepare:prepare", "Turn texts, chats or images into what is trained on."
        ),
        "train": Row("ml_playground.commands.train:train", "Train, or go on where the last run stopped."),
        "sample": Row("ml_playground.commands.sample:sample", "Let a trained model write."),
        "chat": Row("ml_playground.commands.chat:chat", "Talk with a model that was trained on chats."),
        "sweep": Row("ml_playground.commands.sweep:sweep", "Train with many settings, and say which is best."),
        "evaluate": Row("ml_playground.commands.evaluate:evaluate", "Loss, perplexity and bits per byte on any split."),
        "export": Row("ml_playground.commands.export:export", "Write a model for other programs, and prove it."),
        "merge": Row("ml_playground.commands.merge:merge", "Make one model of an adapter and its base."),
    },
    "Look and steer": {
        "experiments": Row("ml_playground.commands.experiments:experiments", "List the experiments there are."),
        "runs": Row("ml_playground.commands.runs:runs", "List the runs and how far each has come."),
        "report": Row("ml_playground.commands.report:report", "Write report.html of a run: curves, samples, settings."),
        "control": Row("ml_playground.commands.control:control", "Ask a running run to save, evaluate, pause or stop."),
        "verify-resume": Row(
            "ml_playground.commands.verify_resume:verify_resume",
            "Prove that a killed and resumed run ends with the same bits.",
        ),
        "data": Group(
            "Follow a text to the model, and find what is wrong in it.",
            {
                "ledger": Row("ml_playground.commands.data:ledger", "Show where every token of the text goes."),
                "show": Row(
                    "ml_playground.commands.data_show:show", "Show rows token by token, and which tokens are targets."
                ),
                "check": Row(
                    "ml_playground.commands.data_check:check",
                    "Find what is wrong with texts and chats, before training.",
                ),
            },
        ),
    },
    "Understand": {
        "analyze": Group(
            "See what a model has learned.",
            {
                "quality": Row(
                    "ml_playground.commands.analyze:quality",
                    "What drawn texts copy, repeat and begin with, and what is odd.",
                ),
            },
        ),
    },
    "Settings and machine": {
        "config": Group(
            "Show, explain, compare and check settings.",
            {
                "show": Row("ml_playground.commands.config:show", "Print every setting and where it comes from."),
                "explain": Row("ml_playground.commands.config:explain", "Show who set one key, layer by layer."),
                "diff": Row("ml_playground.commands.config:diff", "Compare the settings of two experiments or runs."),
                "check": Row("ml_playground.commands.config:check", "Check the settings without running anything."),
                "schema": Row("ml_playground.commands.config:schema", "Print the JSON schema of a job."),
                "presets": Row("ml_playground.commands.config_presets:presets", "List the groups that `use` may name."),
                "import": Row(
                    "ml_playground.commands.config_import:import_config",
                    "Turn a configuration of nanoGPT, Craft or TRAINING into one of ours.",
                ),
            },
        ),
        "bench": Row(
            "ml_playground.commands.bench:bench", "Measure how fast a job trains here, and where the time goes."
        ),
        "random-model": Row(
            "ml_playground.commands.random_model:random_model",
            "Write a small random model, to try a fine-tuning in seconds.",
        ),
        "doctor": Row("ml_playground.commands.doctor:doctor", "Check environment, disk and devices; say what to do."),
    },
}
