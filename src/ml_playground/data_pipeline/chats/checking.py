"""What no prepared chats may be: without an end mark among the targets, nearly all masked, with an empty split."""

from collections.abc import Collection

from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.chats.chat_ledger import BAD_ROW, ChatLedger
from ml_playground.data_pipeline.loss_limit import percent


def check_result(ledger: ChatLedger, settings: PrepareSettings, stop_ids: Collection[int]) -> None:
    """Refuse chats that a model cannot be trained on.

    Raises:
        DataError: They are so; says why, and what to do.
    """
    dropped = ledger.dropped.get(BAD_ROW)
    first = (
        f"; the first row that was dropped is {ledger.bad_rows[0].id}: {ledger.bad_rows[0].reason}" if dropped else ""
    )
    if not any(counts.chats for counts in ledger.splits.values()):
        raise DataError(f"None of the {ledger.chats} rows can be trained on{first}.")
    for split, counts in ledger.splits.items():
        if not counts.chats:
            raise DataError(
                f"prepare.split_by = {settings.split_by!r} puts none of the chats into {split!r}; raise that split's fraction, give "
                f"the source more chats, or set prepare.split_by = 'document'{first}."
            )
    if not stop_ids:
        raise DataError(
            "No answer of the training part is a target, so that no model would learn to end one; raise "
            "prepare.chat.assistant_weight, or the weights that the rows themselves give to answers."
        )
    share, chat = ledger.masked_share(), settings.chat
    if share > chat.most_masked:
        raise DataError(
            f"{percent(share)} of all tokens are no targets, more than prepare.chat.most_masked = {chat.most_masked:g} allows: "
            "nearly nothing would be learnt from so long prompts. Shorten them, or raise the limit."
        )
    if share < chat.least_masked:
        raise DataError(
            f"{percent(share)} of all tokens are no targets, less than prepare.chat.least_masked = {chat.least_masked:g} asks for: "
            "prompts would be trained on. Correct the weights of the roles, or lower the limit."
        )
    ledger.check_losses(settings.max_loss_fraction)
