"""Correct sentences in several languages and scripts, and the ways in which they get damaged."""
# ruff: noqa: RUF001 - letters that look like others are what this is about

from hypothesis import strategies as st

WORDS = {
    "english": [
        "the",
        "naïve",
        "café",
        "it’s",
        "“quoted”",
        "end—and",
        "re-entry",
        "£5",
        "don’t",
        "1990s",
        "x²",
        "20°C",
    ],
    "german": [
        "schöne",
        "Grüße",
        "Straße",
        "Übung",
        "Äpfel",
        "größer",
        "für",
        "„Ja“",
        "Maß",
        "Spaß",
        "Öl",
        "GRÖSSE",
        "§12",
    ],
    "french": ["été", "« oui »", "L’Œuvre", "cœur", "à", "où", "ÉCOLE", "garçon", "façade", "Noël", "CAFÉ", "déjà"],
    "polish": ["zażółć", "gęślą", "jaźń", "Łódź", "ŻÓŁĆ", "miłość"],
    "portuguese": ["não", "IRMÃ", "MAÇÃ", "ação", "É", "VOCÊ", "avó"],
    "chinese": ["你好", "世界", "机器学习", "，", "。", "「语言」"],
    "russian": ["привет", "мир", "Ёлка", "НЕТ"],
    "emoji": ["😀", "👍🏽", "👩‍👩‍👧", "🇩🇪", "✓"],
    "code": ["def f(x):", "x += 1", "# ────", "return [é]", "α→β", "a[0] != 'ü'"],
}
CLOSINGS = ["", "", ",", ".", "!", "“", "”", "’", "»", "\u00a0»", "…", "–", "\u00a0–", "…”", "®", "²", "·"]


def sentences(language: str) -> st.SearchStrategy[str]:
    """Words with what may stand behind them, apart by spaces."""
    word = st.tuples(st.sampled_from(WORDS[language]), st.sampled_from(CLOSINGS)).map("".join)
    return st.lists(word, min_size=1, max_size=12).map(" ".join)


def clean_texts() -> st.SearchStrategy[str]:
    """Some lines in some languages."""
    line = st.sampled_from(sorted(WORDS)).flatmap(sentences)
    return st.lists(line, min_size=1, max_size=5).map("\n".join)


def misread(text: str, encoding: str) -> str:
    """UTF-8 read as a code page with 256 characters; bytes that it does not define stay what they are."""
    return "".join(
        bytes([byte]).decode(encoding, "ignore") or chr(byte) if byte > 127 else chr(byte) for byte in text.encode()
    )
