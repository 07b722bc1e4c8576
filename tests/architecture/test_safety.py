"""What could run code that came with a file, write outside a folder, or believe a stranger must not stand in the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, Source, calls, imports, sources

# Reading one of their files, or a message of theirs, may run whatever the file says.
PICKLES = {"pickle", "dill", "joblib", "shelve", "cloudpickle", "marshal", "multiprocessing", "copyreg"}
CODE = {"code", "codeop", "runpy", "imp", "pty"}

CALLS = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"),
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.hub.load_state_dict_from_url"),
    *("pd.read_pickle", "pandas.read_pickle", "np.loads", "np.fromregex"),
    *("os.system", "os.popen", "os.startfile", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    # Archives may hold names that lead anywhere, and a terabyte in a kilobyte: nothing here reads any.
    *("shutil.unpack_archive", "tarfile.open", "zipfile.ZipFile"),
    # Another process may take the name before the file is there.
    "tempfile.mktemp",
}
METHODS = {"extractall", "unsafe_load", "unsafe_load_all"}
"""Of whatever object: archives, YAML."""

KEYWORDS = {
    "shell": (False,),
    "allow_pickle": (False,),
    "trust_remote_code": (False,),
    "weights_only": (True,),
    "verify": (True,),
}
"""Keyword -> the only values that it may have, written out."""

ONLY_IN = {
    "importlib.import_module": {"core/registry.py", "commands/doctor.py"},
    # A plugin that an experiment names; configuration/plugins.py decides which.
    "importlib.util.spec_from_file_location": {"core/registry.py"},
    # The C library that the process has loaded already, and llama.cpp from where the package index put it.
    "ctypes.CDLL": {"core/machine.py", "core/process_memory.py", "export/llama_api.py"},
    "OpenerDirector": {"core/fetching.py"},
    "urlopen": set[str](),
    "urllib.request.urlopen": set[str](),
}
"""The doors, each of which looks at what comes in."""


def dangers(source: Source) -> Iterator[str]:
    """Everything in a file that stands in the tables above, with its place."""
    for node, name in imports(source):
        if name.partition(".")[0] in PICKLES | CODE:
            yield f"{source.where(node)} imports {name}"
    for call, name in calls(source):
        if name in CALLS or (isinstance(call.func, ast.Attribute) and call.func.attr in METHODS):
            yield f"{source.where(call)} calls {name or ast.unparse(call.func)}"
        for keyword in call.keywords:
            allowed = KEYWORDS.get(keyword.arg or "")
            if allowed and not (isinstance(keyword.value, ast.Constant) and keyword.value.value in allowed):
                yield f"{source.where(call)} says {keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("folder", ["src", "tools", "benchmarks"])
def test_nothing_that_came_with_a_file_is_run(folder: str) -> None:
    """Runs, data, models and settings are exchanged: whoever reads one must not obey it."""
    assert [danger for source in sources(ROOT / folder) for danger in dangers(source)] == []


def test_doors_to_the_outside_are_where_they_are_said_to_be() -> None:
    """Modules by name, native libraries and the network are reached in these places alone."""
    wrong = [
        source.where(call)
        for source in sources()
        for call, name in calls(source)
        if source.path.relative_to(PACKAGE).as_posix()
        not in ONLY_IN.get(name, {source.path.relative_to(PACKAGE).as_posix()})
    ]
    assert wrong == []
    assert [name for files in ONLY_IN.values() for name in files if not (PACKAGE / name).is_file()] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from multiprocessing import Pool",
        "import runpy as r",
        "eval('1')",
        "exec(text)",
        "compile(text, 'a', 'exec')",
        "__import__(name)",
        "torch.load(path)",
        "os.system('ls')",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "tarfile.open(path)",
        "opened().extractall()",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=wanted)",
        "np.load(path, allow_pickle=True)",
        "from_pretrained(name, trust_remote_code=True)",
        "read(path, weights_only=False)",
    ],
)
def test_dangers_each_kind_is_found(text: str) -> None:
    """The tables above are read as they are meant."""
    assert len(list(dangers(Source(ROOT / "src" / "a.py", text, ast.parse(text))))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "torch.compile(f)",
        "re.compile('a')",
        "run(words, shell=False)",
        "np.load(path, allow_pickle=False)",
    ],
)
def test_dangers_harmless_namesakes_are_not_meant(text: str) -> None:
    """`model.eval()` evaluates no text."""
    assert list(dangers(Source(ROOT / "src" / "a.py", text, ast.parse(text)))) == []


def modules_of_strings() -> Iterator[tuple[Path, str]]:
    """Every `module:name` that a file of the package holds as a text."""
    for source in sources():
        for node in source.nodes(ast.Constant):
            value = getattr(node, "value", None)
            if isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+:\w+", value):
                yield source.path, value


def test_modules_that_are_imported_by_name_are_ours() -> None:
    """What `load_object` imports stands in a table of this package, never in a file that is read."""
    wrong = [f"{path.name}: {text}" for path, text in modules_of_strings() if not text.startswith("ml_playground.")]
    assert wrong == []
