"""What can be reported of rows of JSON Lines, beside what `text_codes` holds for any text."""

from collections.abc import Mapping

from ml_playground.data_pipeline.checks.findings import Check

ROW_CODES: Mapping[str, Check] = {
    "row_too_long": Check(
        "error", "row", "is longer than a reader takes (16 MiB)", "It cannot be read.", "Split it, or leave it out."
    ),
    "broken_json": Check(
        "error",
        "row",
        "is no JSON",
        "It cannot be read.",
        "Mend it at the column that is named; --quarantine sets it aside.",
    ),
    "nested_too_deep": Check(
        "error", "row", "is nested too deep", "It is refused.", "A chat needs five levels; look what wrote it."
    ),
    "no_json_number": Check(
        "error",
        "row",
        "holds NaN, Infinity, or a number that no computer holds",
        "JSON has none of these, and readers differ in what they make of them.",
        "Write null or leave the key out.",
    ),
    "duplicate_key": Check(
        "error",
        "row",
        "holds a key twice in one object",
        "One of the two values is lost, and which one depends on the reader.",
        "Keep the right one.",
    ),
    "not_an_object": Check(
        "error",
        "row",
        "is no object in braces",
        "It holds no messages.",
        "One JSON object a line; a list over many lines is no JSONL.",
    ),
    "blank_line": Check("info", "row", "is blank", "It is skipped.", "Nothing, or remove it."),
    "unknown_shape": Check(
        "error",
        "row",
        "holds neither messages nor prompt and answer nor text",
        "There is nothing to train on that we would know of.",
        "Rename its keys: messages, or prompt and completion, or text. Rows of plain text need no renaming: an experiment with "
        'prepare.source.kind = "jsonl_text" reads any key, also one inside another: prepare.source.content_column = "meta.text".',
    ),
    "bad_message": Check(
        "error",
        "row",
        "has a message without a role or without text",
        "The chat cannot be written down in the model's format.",
        "Give each message a role and a content that is text.",
    ),
    "empty_row": Check("error", "row", "says nothing", "There is nothing to learn.", "Remove it."),
    "unknown_role": Check(
        "error",
        "row",
        "has a role that is none of system, user, assistant, tool",
        "A chat template refuses it, or takes the words for somebody else's.",
        "Rename the role.",
    ),
    "no_assistant": Check(
        "error",
        "row",
        "has no answer",
        "With a loss on answers alone, nothing of it is trained.",
        "Remove it, or add the answer.",
    ),
    "empty_answer": Check(
        "error",
        "row",
        "has an empty answer",
        "The model would learn to say nothing; it is refused when chats are prepared.",
        "Add the answer, give it the weight 0, or remove the row.",
    ),
    "orphan_answer": Check(
        "error",
        "row",
        "has an answer before anybody has asked",
        "The model would learn to speak to nobody; it is refused when chats are prepared.",
        "Add the question, or give the answer the weight 0.",
    ),
    "nothing_trained": Check(
        "error",
        "row",
        "gives each of its answers the weight 0",
        "Nothing of it is trained; it is refused when chats are prepared.",
        "Give one of them another weight, or remove the row.",
    ),
    "same_answers": Check(
        "error",
        "row",
        "rejects the answer that it chooses",
        "There is nothing to prefer.",
        "Remove it, or mend one of the two.",
    ),
    "bad_tools": Check(
        "error",
        "row",
        "describes its tools as what is no list",
        "No chat template can write them down.",
        "Write a list of objects.",
    ),
    "refused": Check(
        "error",
        "row",
        "is refused by the experiment's template, profile or weights",
        "Preparing the experiment takes no such row.",
        "Do what the message says; prepare.chat.on_bad_row = 'drop' leaves such rows out.",
    ),
    "empty_message": Check(
        "warning",
        "row",
        "has an empty message of the system or user",
        "The model learns to answer what nobody asked.",
        "Remove the message or the row.",
    ),
    "system_not_first": Check(
        "warning",
        "row",
        "has a system message that is not the first",
        "Most chat templates refuse it or move it.",
        "Put it first.",
    ),
    "same_role_twice": Check(
        "warning",
        "row",
        "has two messages of one side in a row",
        "Chat templates refuse it, or the model learns not to wait for an answer.",
        "Join them, or add what is missing between them.",
    ),
    "starts_with_assistant": Check(
        "warning",
        "row",
        "begins with an answer that is not trained (its weight is 0)",
        "The model reads an answer that nobody asked for.",
        "Remove the message, or add the question.",
    ),
    "ends_without_answer": Check(
        "warning",
        "row",
        "ends with a question",
        "Its last words are never trained, only paid for.",
        "Cut them, or add the answer.",
    ),
    "few_answers": Check(
        "info",
        "row",
        "has an answer for every fifth message at most",
        "Most of it is read and not learned.",
        "Nothing, if it is meant so.",
    ),
    "answer_in_prompt": Check(
        "warning",
        "row",
        "has an answer that stands in its question, word for word",
        "The model learns to copy, and scores better than it is.",
        "Take the answer out of the question, unless copying is the task.",
    ),
    "duplicate_row": Check(
        "warning",
        "row",
        "says the same as an earlier one",
        "It is learned twice as often as the others.",
        "Keep one of them.",
    ),
    "near_duplicate_row": Check(
        "info",
        "row",
        "says the same as an earlier one but for white space",
        "It is learned twice as often as the others.",
        "Keep one of them.",
    ),
    "different_answers": Check(
        "warning",
        "row",
        "has a question that other rows answer otherwise",
        "The model can only learn a mixture, and its loss has a floor.",
        "Keep the best answer, unless variety is wanted.",
    ),
    "long_row": Check(
        "warning",
        "row",
        "is far longer than the others, or than the model can read",
        "What does not fit into a sequence is cut, and the answer stands at the end.",
        "Split it, or give the model a longer context.",
    ),
    "odd_ratio": Check(
        "info",
        "row",
        "has an answer that is far longer or shorter for its question than the others",
        "Often the sides are swapped, or an answer was cut.",
        "Look at these.",
    ),
}
