"""Whether the parts of a job go together: what its source gives is what the others take."""

from collections.abc import Iterable, Mapping

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


def misfit_of_documents(data: Component, model: Component) -> str | None:
    """Why a model cannot read several documents of one row apart, in words; None where it can, or need not."""
    if not data.packs or model.isolates_documents:
        return None
    apart = [kind for kind, found in kinds_of("model").items() if found.isolates_documents]
    unpacked = [kind for kind, found in kinds_of("data").items() if found.modality == data.modality and not found.packs]
    return (
        f"data.kind = {data.kind_name!r} puts several documents into one row, and model.kind = {model.kind_name!r} would read each "
        f"of them as the beginning of the next; set data.kind: {', '.join(unpacked)}; or model.kind: {', '.join(apart)}"
    )


def misfit_of_pairs(source: Component, data: Component, objective: Component) -> str | None:
    """Which parts of a job compare answers and which do not, in words; None where all do, or none."""
    parts = {"prepare.source": source, "data": data, "objective": objective}
    pairing = {name: part for name, part in parts.items() if part.pairs}
    if len(pairing) in (0, len(parts)):
        return None

    def listed(some: Mapping[str, Component]) -> str:
        return " and ".join(f"{name}.kind = {part.kind_name!r}" for name, part in some.items())

    def kinds(names: Iterable[str], *, pairs: bool) -> str:
        allowed = {
            name: [
                kind
                for kind, found in kinds_of(name.rpartition(".")[2]).items()
                if found.pairs == pairs and (pairs or found.modality == parts[name].modality)
            ]
            for name in names
        }
        return "; ".join(f"{name}.kind: {', '.join(some)}" for name, some in allowed.items())

    single = {name: part for name, part in parts.items() if not part.pairs}
    go, do = ("goes", "do") if len(pairing) == 1 else ("go", "does")
    return (
        f"{listed(pairing)} {go} by pairs of a better and a worse answer, and {listed(single)} {do} not; to learn a preference "
        f"set {kinds(single, pairs=True)}; to learn texts as they are set {kinds(pairing, pairs=False)}"
    )


def misfit_of_averages(optimizer: Component, schedule: Component, ema_decay: float) -> str | None:
    """Why an optimizer that averages weights itself cannot be had with this job, in words; None where it can, or does not."""
    if not optimizer.averages_weights:
        return None
    kind = f"optimizer.kind = {optimizer.kind_name!r} keeps a mean of the weights"
    if schedule.descends:
        level = [kind for kind, found in kinds_of("schedule").items() if not found.descends]
        return (
            f"{kind} in the place of a descent of the learning rate, but schedule.kind = {schedule.kind_name!r} comes down; "
            f"set schedule.kind: {', '.join(level)}"
        )
    if ema_decay:
        return f"{kind}, which is evaluated and saved, and train.ema_decay = {ema_decay:g} asks for another one; set train.ema_decay = 0"
    return None


def kinds_taking(family: str, modality: Modality) -> list[str]:
    """The kinds of a family that take such things."""
    return [kind for kind, found in kinds_of(family).items() if found.modality in (None, modality)]
