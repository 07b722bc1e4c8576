"""Whether the parts of a job go together: what its source gives is what the others take."""

from collections.abc import Mapping

from ml_playground.configuration.base import Component, HookSettings, Modality, kinds_of


def misfit_of_tokenizer(source: Component, tokenizer: Component | None) -> str | None:
    """What is wrong with the tokenizer of a source, in words; None where nothing is."""
    if source.modality in ("text", "chats") and tokenizer is None:
        return (
            f"source.kind = {source.kind_name!r} gives {source.modality}, and there is no tokenizer to make ids of it; "
            'set prepare.tokenizer, e.g. tokenizer = { kind = "byte_bpe", vocab_size = 2048 }'
        )
    if source.modality == "images" and tokenizer is not None:
        return (
            f"source.kind = {source.kind_name!r} gives images, which no tokenizer can read, but tokenizer.kind = "
            f'{tokenizer.kind_name!r}; set prepare.tokenizer = "none"'
        )
    return None


def misfit_of_parts(source: Component, parts: Mapping[str, Component], hooks: Mapping[str, Component]) -> str | None:
    """Which parts cannot take what the source gives, and which kinds could, in words; None where all can.

    Args:
        source: Gives text or images.
        parts: By the name of their section, which is that of their family: data, model, objective.
        hooks: By their names.
    """
    given = source.modality
    if given is None:
        return None
    wrong = {name: part for name, part in parts.items() if part.modality not in (None, wanted_of(name, given))}
    idle = [
        name
        for name, hook in hooks.items()
        if isinstance(hook, HookSettings) and hook.enabled and hook.modality not in (None, wanted_of("hook", given))
    ]
    if not wrong and not idle:
        return None
    others = [f"{name}.kind = {part.kind_name!r}" for name, part in wrong.items()]
    others += [f"hooks.{name}.kind = {hooks[name].kind_name!r}" for name in idle]
    taken = " and ".join(
        sorted({*[str(part.modality) for part in wrong.values()], *[str(hooks[name].modality) for name in idle]})
    )
    remedies = [f"{name}.kind: {', '.join(kinds_taking(name, wanted_of(name, given)))}" for name in wrong]
    remedies += [f"hooks.{name}.enabled = false" for name in idle]
    listed = f"{', '.join(others[:-1])} and {others[-1]} take" if others[1:] else f"{others[0]} takes"
    return f"prepare.source.kind = {source.kind_name!r} gives {given}, but {listed} {taken}; for {given} set {'; '.join(remedies)}"


def wanted_of(part: str, given: Modality) -> Modality:
    """What a part must take where the source gives that: only data know chats, for all others these are text."""
    return "text" if given == "chats" and part != "data" else given


def kinds_taking(family: str, modality: Modality) -> list[str]:
    """The kinds of a family that take such things."""
    return [kind for kind, found in kinds_of(family).items() if found.modality in (None, modality)]
