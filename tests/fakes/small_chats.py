"""Chats that profiles are tried on: one turn, several, with a system prompt, with thoughts, with tools, without a last answer."""

from ml_playground.core.values import ChatExample, Message


def chat(*turns: tuple[str, str], rejected: str = "") -> ChatExample:
    """A chat of roles and contents."""
    messages = tuple(Message(role, content) for role, content in turns)
    return ChatExample("a.jsonl:1", messages, {"level": 1}, (Message("assistant", rejected),) if rejected else ())


SMALL_CHATS = {
    "one turn": chat(("user", "What is 1 + 2 * 3?"), ("assistant", "(add 1  (mul 02 3))")),
    "two turns": chat(
        ("user", "Hello. I think with 🤔 a lot."), ("assistant", "Hi!"), ("user", "And 2 + 2?"), ("assistant", "4")
    ),
    "system prompt": chat(("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "2 and 2.\n(add 2 2)")),
    "thoughts": chat(("user", "2 + 2?"), ("assistant", "<think>\nHm, four.\n</think>\n\n4")),
    "emojis of its own": chat(("user", "Ideas?"), ("assistant", "💡💡\nGo out.\n🛑🛑")),
    "half marked": chat(("user", "2 + 2?"), ("assistant", "I add. <<ANS_START>> 4")),
    "no answer yet": chat(("user", "2 + 2?")),
    "preference": chat(("user", "2 + 2?"), ("assistant", "4"), rejected="5"),
}
