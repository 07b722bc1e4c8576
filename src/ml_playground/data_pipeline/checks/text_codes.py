"""What can be reported of bytes and texts: how bad it is, what is counted, what it does to training, what to do about it."""

from collections.abc import Mapping

from ml_playground.data_pipeline.checks.findings import Check

TEXT_CODES: Mapping[str, Check] = {
    # Bytes and characters, in texts and rows.
    "unreadable": Check(
        "error", "document", "cannot be read", "Nothing of it can be trained on.", "Do what the message says."
    ),
    "wrong_encoding": Check(
        "error",
        "line",
        "is not UTF-8",
        "Preparing stops at the first such byte.",
        "Convert the file (iconv -f ENCODING -t utf-8), or name its encoding in prepare.source.encoding.",
    ),
    "nul": Check(
        "error",
        "line",
        "holds NUL",
        "No text does: the file is binary or damaged, and preparing refuses it.",
        "Leave the file out, or restore it from where it came from.",
    ),
    "lone_surrogate": Check(
        "error",
        "line",
        "holds half a surrogate pair",
        "It is no character and cannot be written as UTF-8, so preparing stops at it.",
        "Mend what wrote the row: an emoji was cut in two, or escaped wrongly.",
    ),
    "control_character": Check(
        "warning",
        "line",
        "holds control characters",
        "The model learns to write them, and they can disturb the terminals of its readers.",
        "Remove them; escape sequences of colours come from logs of terminals.",
    ),
    "byte_order_mark": Check(
        "warning",
        "line",
        "holds a byte order mark",
        "An invisible character becomes part of the first word behind it.",
        "Save the file as UTF-8 without a mark; in the middle, files were joined that each had one.",
    ),
    "replacement_character": Check(
        "warning",
        "line",
        "holds U+FFFD, which replaces what could not be read",
        "Letters were lost in an earlier conversion, and the model learns the gaps.",
        "Convert the original again with the right encoding.",
    ),
    "mojibake": Check(
        "warning",
        "line",
        "is UTF-8 that was read as Latin-1 or Windows-1252",
        "The model learns two spellings of one word, and writes the broken one too.",
        "Mend the text as shown, at best where it was converted.",
    ),
    # Texts.
    "empty_document": Check(
        "info", "document", "holds no text", "It adds nothing but the end of a document.", "Leave it out."
    ),
    "no_letters": Check(
        "warning",
        "document",
        "holds no letter and no digit",
        "There is nothing to learn but punctuation.",
        "Leave it out, or look why its text is missing.",
    ),
    "repeated_character": Check(
        "warning",
        "line",
        "repeats one character 200 times or more",
        "Long runs of one token are learned within steps and come back as endless repetition.",
        "Shorten or remove them.",
    ),
    "repeated_line": Check(
        "warning",
        "place",
        "repeats one line 50 times or more",
        "The model learns to repeat itself.",
        "Keep one of them.",
    ),
    "repeats_itself": Check(
        "warning",
        "place",
        "says one thing over and over (it compresses to less than a fifteenth)",
        "The model learns to repeat itself.",
        "Remove it: often a log, a table of zeros, or a sample of a broken model.",
    ),
    "long_line": Check(
        "info",
        "line",
        "is longer than 100,000 bytes",
        "Such lines are rarely prose: packed code, base64, exported tables.",
        "Look at it; leave the file out if it is none of what you want to hear.",
    ),
    "mixed_line_ends": Check(
        "info",
        "document",
        "ends some lines with CR LF and some with LF",
        "Two characters for one meaning: words at line ends have two forms.",
        "Convert it (dos2unix).",
    ),
    "duplicate_document": Check(
        "warning",
        "document",
        "is a copy of an earlier one",
        "It is learned twice as often as the others, and where one copy is validated on, the loss there says too little.",
        "Keep one of them.",
    ),
    "near_duplicate_document": Check(
        "info",
        "document",
        "is a copy of an earlier one but for white space",
        "It is learned twice as often as the others.",
        "Keep one of them.",
    ),
    "duplicate_paragraph": Check(
        "info",
        "paragraph",
        "stands there again, and has 200 bytes or more",
        "What is repeated (licences, headers) is learned by heart first.",
        "Nothing, unless they are a large share of the text.",
    ),
    "much_duplicate_text": Check(
        "warning",
        "paragraph",
        "stands there again; together they are more than a twentieth of the text",
        "The model learns these by heart instead of more of the language.",
        "Keep one of each.",
    ),
    "validation_overlap": Check(
        "info",
        "paragraph",
        "is validated on and trained on; together they are less than a hundredth of what is held out",
        "Licences and headers mostly; the validation loss is hardly lower for it.",
        "Nothing.",
    ),
    "validation_leak": Check(
        "warning",
        "passage",
        "is validated on and trained on",
        "The validation loss is lower than it will be on text that the model has not seen.",
        "Take these out of the training part; for files, --quarantine does.",
    ),
}
