"""The tables: kind -> where its settings and its builder live. Nothing is imported until it is asked for.

One signature per family:

| family    | `build` names                                                                                   |
|-----------|-------------------------------------------------------------------------------------------------|
| source    | `build(settings, deps) -> Source` of text, `ImageSource` or `ChatSource`: a stream, and `provenance()` says of what |
| profile   | `build(settings, seed) -> DataProfile` (profiles.protocol): how chats are decorated, drawn and scored |
| tokenizer | a class with `train(texts, settings)` and `load(folder)` (core.tokenizer_protocol)               |
| data      | `build(settings, folder, seed) -> Data` (training.protocols): batches over a prepared data set   |
| model     | `build(settings, context) -> torch.nn.Module`; the context (core.values) holds the data's facts  |
| adapter   | `build(settings, network) -> torch.nn.Module`: small weights beside frozen ones; part of a model  |
| objective | `build(settings) -> Objective` (training.protocols)                                              |
| optimizer | `build(settings, model, compute_dtype) -> Optimizer` (training.protocols)                        |
| schedule  | `build(settings, max_steps) -> Callable[[int], float]`                                           |
| hook      | `build(settings, context) -> Hook` (training.protocols)                                          |
| preview   | by the kind of objective: `build(model, attachments, sample settings) -> Preview`                |
| engine    | by `sample.engine`: `build(model, precision, export) -> Decoder` (models.protocols)              |

A row may also name, free of torch (but where another library defines the model): of a model its `cost(settings, facts) -> ModelCost`
(core.values) and its `memory(settings, context, dtype) -> TokenMemory`; of data its `fates(settings, folder) -> Mapping[str, Fates]`:
what one epoch does with each token of each split. Beside the tables: `BOOKS`, `open_books(folder, data settings) -> Books`: that, and
what preparing did with the text; `SPLIT_TEXT`, `split_text(folder, split) -> Iterator[str]`: the text of a prepared split; `REFERENCE`,
`open_reference(path, tokenizer folder) -> Reference`: a model that preferences are compared with.

Packages add kinds by entry points, a job by its `plugins`: see docs/add-your-own.md.
"""

from collections.abc import Mapping
from typing import Any

from ml_playground.core.registry import Family, Kind, load_object
from ml_playground.core.values import ModelCost

SOURCES = Family(
    "source",
    {
        "text_file": Kind(
            "ml_playground.data_pipeline.settings:TextFile", "ml_playground.data_pipeline.sources.text_file:build"
        ),
        "url_text": Kind(
            "ml_playground.data_pipeline.settings:UrlText", "ml_playground.data_pipeline.sources.url_text:build"
        ),
        "python_stdlib": Kind(
            "ml_playground.data_pipeline.settings:PythonStdlib",
            "ml_playground.data_pipeline.sources.python_stdlib:build",
        ),
        "python_docstrings": Kind(
            "ml_playground.data_pipeline.settings:PythonDocstrings",
            "ml_playground.data_pipeline.sources.python_docstrings:build",
        ),
        "symbolic_problems": Kind(
            "ml_playground.data_pipeline.sources.symbolic_settings:SymbolicProblems",
            "ml_playground.data_pipeline.sources.symbolic_problems:build",
        ),
        "csv_text": Kind(
            "ml_playground.data_pipeline.sources.settings:CsvText", "ml_playground.data_pipeline.sources.csv_text:build"
        ),
        "jsonl_text": Kind(
            "ml_playground.data_pipeline.sources.settings:JsonlText",
            "ml_playground.data_pipeline.sources.jsonl_text:build",
        ),
        "jsonl_chat": Kind(
            "ml_playground.data_pipeline.sources.settings:JsonlChat",
            "ml_playground.data_pipeline.sources.jsonl_chat:build_chats",
        ),
        "jsonl_preference": Kind(
            "ml_playground.data_pipeline.sources.settings:JsonlPreference",
            "ml_playground.data_pipeline.sources.jsonl_chat:build_preferences",
        ),
        "parquet": Kind(
            "ml_playground.data_pipeline.sources.settings:Parquet",
            "ml_playground.data_pipeline.sources.parquet_rows:build",
        ),
        "hub_dataset": Kind(
            "ml_playground.data_pipeline.sources.settings:HubDataset",
            "ml_playground.data_pipeline.sources.hub_dataset:build",
        ),
        "tei_xml": Kind(
            "ml_playground.data_pipeline.sources.settings:TeiXml", "ml_playground.data_pipeline.sources.tei_xml:build"
        ),
        "mixture": Kind(
            "ml_playground.data_pipeline.sources.settings:Mixture", "ml_playground.data_pipeline.sources.mixture:build"
        ),
        "digits": Kind(
            "ml_playground.data_pipeline.settings:Digits", "ml_playground.data_pipeline.sources.digits:build"
        ),
        "mnist": Kind("ml_playground.data_pipeline.settings:Mnist", "ml_playground.data_pipeline.sources.mnist:build"),
    },
)

TOKENIZERS = Family(
    "tokenizer",
    {
        "char": Kind("ml_playground.tokenization.settings:Char", "ml_playground.tokenization.char:CharTokenizer"),
        "byte": Kind("ml_playground.tokenization.settings:Byte", "ml_playground.tokenization.byte:ByteTokenizer"),
        "word": Kind("ml_playground.tokenization.settings:Word", "ml_playground.tokenization.word:WordTokenizer"),
        "ngram": Kind("ml_playground.tokenization.settings:Ngram", "ml_playground.tokenization.ngram:NgramTokenizer"),
        "byte_bpe": Kind(
            "ml_playground.tokenization.settings:ByteBpe", "ml_playground.tokenization.byte_bpe:ByteBpeTokenizer"
        ),
        "tiktoken_bpe": Kind(
            "ml_playground.tokenization.settings:TiktokenBpe",
            "ml_playground.tokenization.tiktoken_bpe:TiktokenBpeTokenizer",
        ),
        "sentencepiece_model": Kind(
            "ml_playground.tokenization.settings:SentencepieceModel",
            "ml_playground.tokenization.sentencepiece_model:SentencepieceTokenizer",
        ),
        "hugging_face": Kind(
            "ml_playground.tokenization.settings:HuggingFace",
            "ml_playground.tokenization.hugging_face:HuggingFaceTokenizer",
        ),
    },
)

DATA = Family(
    "data",
    {
        name: Kind(
            f"ml_playground.data_pipeline.settings:{settings}",
            f"ml_playground.data_pipeline.sampling.{build}",
            fates=f"ml_playground.data_pipeline.sampling.fates:{fates}",
        )
        for name, settings, build, fates in (
            ("token_windows", "TokenWindows", "token_windows:build", "of_windows"),
            ("padded_examples", "PaddedExamples", "example_batches:build_padded", "of_padded"),
            ("packed_examples", "PackedExamples", "example_batches:build_packed", "of_packed"),
            ("preference_pairs", "PreferencePairs", "preference_pairs:build", "of_pairs"),
            ("image_batches", "ImageBatches", "image_batches:build", "of_images"),
        )
    },
)

BOOKS = "ml_playground.data_pipeline.books:open_books"

REFERENCE = "ml_playground.evaluation.reference:open_reference"

SPLIT_TEXT = "ml_playground.data_pipeline.split_text:split_text"

PROFILES = Family(
    "profile",
    {
        "none": Kind("ml_playground.profiles.settings:Nothing", "ml_playground.profiles.none:build"),
        "plain_sft": Kind("ml_playground.profiles.settings:PlainSft", "ml_playground.profiles.plain_sft:build"),
        "emoji_think": Kind("ml_playground.profiles.settings:EmojiThink", "ml_playground.profiles.emoji_think:build"),
        "regime3": Kind("ml_playground.profiles.settings:Regime3", "ml_playground.profiles.regime3:build"),
    },
)

MODELS = Family(
    "model",
    {
        "gpt": Kind(
            "ml_playground.models.settings:Gpt",
            "ml_playground.models.core.gpt:build",
            cost="ml_playground.models.utils.counting:cost",
            memory="ml_playground.models.utils.memory:gpt",
        ),
        "char_rnn": Kind(
            "ml_playground.models.recurrent.settings:CharRnn",
            "ml_playground.models.core.char_rnn:build",
            cost="ml_playground.models.recurrent.counting:char_rnn_cost",
            memory="ml_playground.models.recurrent.memory:char_rnn",
        ),
        "min_gru": Kind(
            "ml_playground.models.recurrent.settings:MinGru",
            "ml_playground.models.core.min_gru:build",
            cost="ml_playground.models.recurrent.counting:min_gru_cost",
            memory="ml_playground.models.recurrent.memory:min_gru",
        ),
        "mnist_cnn": Kind(
            "ml_playground.models.images.settings:MnistCnn",
            "ml_playground.models.core.mnist_cnn:build",
            cost="ml_playground.models.images.counting:cnn_cost",
        ),
        "vit": Kind(
            "ml_playground.models.images.settings:Vit",
            "ml_playground.models.core.vit:build",
            cost="ml_playground.models.images.counting:vit_cost",
        ),
        "hf_causal_lm": Kind(
            "ml_playground.models.hugging_face.settings:HfCausalLm",
            "ml_playground.models.core.hf_causal_lm:build",
            cost="ml_playground.models.core.hf_causal_lm_loading:cost",
        ),
    },
)

ADAPTERS = Family(
    "adapter",
    {"lora": Kind("ml_playground.models.adapters.settings:Lora", "ml_playground.models.adapters.lora:build")},
)

OBJECTIVES = Family(
    "objective",
    {
        "next_token": Kind("ml_playground.objectives.settings:NextToken", "ml_playground.objectives.next_token:build"),
        "dpo": Kind("ml_playground.objectives.settings:Dpo", "ml_playground.objectives.dpo:build"),
        "classify": Kind("ml_playground.objectives.settings:Classify", "ml_playground.objectives.classify:build"),
    },
)

OPTIMIZERS = Family(
    "optimizer",
    {
        name: Kind(f"ml_playground.training.settings:{settings}", f"ml_playground.training.optim.{name}:build")
        for name, settings in {
            "adamw": "AdamW",
            "muon": "Muon",
            "adamw8bit": "AdamW8bit",
            "paged_adamw": "PagedAdamW",
            "galore": "GaLore",
            "schedule_free": "ScheduleFree",
        }.items()
    },
)

SCHEDULES = Family(
    "schedule",
    {
        name: Kind(f"ml_playground.training.settings:{settings}", f"ml_playground.training.optim.schedules:{name}")
        for name, settings in {
            "warmup_cosine": "WarmupCosine",
            "warmup_stable_decay": "WarmupStableDecay",
            "warmup_linear": "WarmupLinear",
            "warmup_constant": "WarmupConstant",
            "one_cycle": "OneCycle",
        }.items()
    },
)

HOOKS = Family(
    "hook",
    {
        name: Kind(f"ml_playground.training.settings:{settings}", f"ml_playground.training.hooks.{name}:build")
        for name, settings in {
            "console": "Console",
            "jsonl_metrics": "JsonlMetrics",
            "status": "StatusFile",
            "control": "Control",
            "samples": "Samples",
            "early_stopping": "EarlyStopping",
            "time_budget": "TimeBudget",
        }.items()
    },
)

PREVIEWS = Family(
    "preview",
    {
        "next_token": Kind(
            "ml_playground.configuration.sample_settings:SampleSettings", "ml_playground.sampling.preview:build"
        ),
        "dpo": Kind(
            "ml_playground.configuration.sample_settings:SampleSettings", "ml_playground.sampling.preview:build"
        ),
    },
)

ENGINES = Family(
    "engine",
    {
        "torch": Kind(
            "ml_playground.configuration.sample_settings:SampleSettings",
            "ml_playground.sampling.execution:torch_engine",
        ),
        "llama_cpp": Kind(
            "ml_playground.configuration.sample_settings:SampleSettings", "ml_playground.export.llama_cpp:build"
        ),
    },
)

FAMILIES: Mapping[str, Family] = {
    table.name: table
    for table in (
        SOURCES,
        PROFILES,
        TOKENIZERS,
        DATA,
        MODELS,
        ADAPTERS,
        OBJECTIVES,
        OPTIMIZERS,
        SCHEDULES,
        HOOKS,
        PREVIEWS,
        ENGINES,
    )
}


def cost_of(model: Any, facts: Mapping[str, int]) -> ModelCost | None:
    """What a model of these settings costs with data of these facts; None where its kind does not say."""
    cost = MODELS[model.kind_name].cost
    return load_object(cost)(model, facts) if cost else None
