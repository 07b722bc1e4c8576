"""The printable letters that stand for bytes in byte-level vocabularies."""


def byte_letters() -> dict[str, int]:
    """The printable letter that stands for each byte in vocabularies of this kind, and the byte.

    Source: `bytes_to_unicode`, https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTE_OF_LETTER = byte_letters()
