"""What docs/architecture.md says about structure holds: import layers, file tree, sizes, light start, the wheel."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import flowprep

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = {
    "flowprep": ROOT / "flowprep",
    "fusion_train": ROOT / "fusion_train",
    "flowprep_cli": ROOT / "cli/flowprep_cli",
}
TREE_FOLDERS = ("flowprep", "fusion_train", "cli", "benchmarks", "docs")

MAX_LINES = 600
MAX_LINES_WITHOUT_REASON = 400
LONG_FILES = {
    "flowprep/commit.py": "all changes of the disk stand in one place, where tests make each of them fail",
    "flowprep/config.py": "every setting, its limits and its option stand in one place",
    "flowprep/publisher.py": "the two writers are read side by side: they keep the same promises",
}

HEAVY = frozenset(
    {"numpy", "cv2", "av", "h5py", "joblib", "torch", "numba", "dask", "distributed", "rich", "matplotlib"}
)


# -- imports -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A row of the table of layers."""

    name: str
    modules: tuple[str, ...]
    may_import: tuple[str, ...]
    libraries: frozenset[str]


@dataclass(frozen=True)
class Import:
    """One imported module, and whether that happens when the file is loaded."""

    module: str
    names: tuple[str, ...]
    at_load: bool


def modules_on_disk() -> dict[str, Path]:
    """Full module name to file."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules_on_disk()


def read_layers() -> dict[str, Layer]:
    """The table of layers, by name, in its order."""
    section = DOCUMENT.split("\n## Who may import whom\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    assert rows[0] == ["layer", "modules", "may import", "libraries"]
    return {
        name: Layer(name, _items(modules), _items(may_import), frozenset(_items(libraries)))
        for name, modules, may_import, libraries in rows[2:]
    }


def _items(cell: str) -> tuple[str, ...]:
    return tuple(item.strip().strip("`") for item in cell.split(",") if item.strip())


LAYERS = read_layers()


def imports_of(path: Path) -> Iterator[Import]:
    """All imports of a file, wherever they stand. `from package import module` counts as an import of the module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        at_load = node in tree.body
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, (), at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: imports are absolute"
            module = node.module or ""
            submodules = [alias.name for alias in node.names if f"{module}.{alias.name}" in MODULES]
            names = tuple(alias.name for alias in node.names if alias.name not in submodules)
            yield from (Import(f"{module}.{name}", (), at_load) for name in submodules)
            if names:
                yield Import(module, names, at_load)


def short(module: str) -> str:
    """The name that the table uses: without `flowprep.`."""
    return module.removeprefix("flowprep.")


def is_within(module: str, entry: str) -> bool:
    return module == entry or module.startswith(f"{entry}.")


def owner_of(module: str) -> tuple[Layer, str]:
    """The layer that owns a module, and by which of its entries: the longest that fits."""
    fitting = [
        (len(entry), layer.name, entry)
        for layer in LAYERS.values()
        for entry in layer.modules
        if is_within(short(module), entry)
    ]
    assert fitting, f"{module} belongs to no layer of docs/architecture.md"
    _, name, entry = max(fitting)
    return LAYERS[name], entry


def may_import(layer: Layer, target: str) -> bool:
    owner, entry = owner_of(target)
    if owner.name in (layer.name, *layer.may_import):
        return True
    # An item that is no layer is a module; what another layer owns below it is not meant.
    return any(is_within(short(target), item) and len(entry) <= len(item) for item in layer.may_import)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


@pytest.mark.parametrize("module", [name for name in MODULES if name != "flowprep"])
def test_module_imports_only_what_its_layer_may(module: str) -> None:
    layer, _ = owner_of(module)
    wrong = []
    for found in imports_of(MODULES[module]):
        if is_ours(found.module):
            if found.module == "flowprep":
                if found.names != ("__version__",):
                    wrong.append(f"{', '.join(found.names)} from flowprep itself")
            elif not may_import(layer, found.module):
                wrong.append(f"{found.module} (layer {owner_of(found.module)[0].name})")
        elif found.module.partition(".")[0] not in sys.stdlib_module_names | layer.libraries:
            wrong.append(f"the library {found.module}")
    assert not wrong, f"{module} (layer {layer.name}) must not import {'; '.join(wrong)}"


def test_of_training_prediction_alone_reads_videos_and_only_when_it_needs_to() -> None:
    users = {
        (module, found.module): found.at_load
        for module, path in MODULES.items()
        if is_within(module, "fusion_train")
        for found in imports_of(path)
        if found.module in ("flowprep.pipeline", "flowprep.decode", "flowprep.videofiles")
    }
    assert users == {("fusion_train.predict_inputs", "flowprep.videofiles"): False}


def test_public_package_loads_nothing_of_ours() -> None:
    at_load = [found.module for found in imports_of(MODULES["flowprep"]) if found.at_load]
    assert at_load
    assert {module.partition(".")[0] for module in at_load} <= sys.stdlib_module_names


def test_layers_name_only_layers_above_them_and_modules_that_exist() -> None:
    above: list[str] = []
    for layer in LAYERS.values():
        for entry in layer.modules:
            assert entry in MODULES or f"flowprep.{entry}" in MODULES, f"{layer.name}: there is no module {entry}"
        for item in layer.may_import:
            name = item if item in LAYERS else owner_of(f"flowprep.{item}")[0].name
            assert name in above, f"{layer.name} may import {item}, which does not stand above it"
        above.append(layer.name)


def test_modules_do_not_import_each_other_in_a_circle_when_they_are_loaded() -> None:
    graph = {
        module: {found.module for found in imports_of(path) if found.at_load and is_ours(found.module)}
        for module, path in MODULES.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_imports_are_statements_that_can_be_read() -> None:
    """`importlib.import_module` and `__import__` would pass by the rules; only the public package uses one."""
    pattern = re.compile(r"\bimport_module\(|\b__import__\(")
    users = [module for module, path in MODULES.items() if pattern.search(path.read_text(encoding="utf-8"))]
    assert users == ["flowprep"]


# -- files -------------------------------------------------------------------------------------------------------------


def documented_files() -> dict[str, str]:
    """File to description, from the tree in the document. Folders end in a slash, two blanks are a level."""
    block = DOCUMENT.split("\n## Files\n")[1].split("```")[1]
    folders: list[str] = []
    files = {}
    for line in block.strip("\n").splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, description = line.strip().partition(" ")
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert "".join(folders) + name not in files, f"{line.strip()}: listed twice"
            files["".join(folders) + name] = description.strip()
    return files


def python_files(*folders: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def test_file_tree_is_that_of_the_disk() -> None:
    documented = documented_files()
    assert sorted(documented) == python_files(*TREE_FOLDERS)
    assert [name for name, description in documented.items() if not description] == []


def test_files_are_short() -> None:
    lengths = {
        name: len((ROOT / name).read_text(encoding="utf-8").splitlines())
        for name in python_files(*TREE_FOLDERS, "tests")
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    long = {name for name, length in lengths.items() if length > MAX_LINES_WITHOUT_REASON}
    # A file of tests is a list, which is read entry by entry: only the larger limit holds for it.
    unexplained = {name for name in long if not name.startswith("tests/")} - set(LONG_FILES)
    assert unexplained == set(), "split it, or give a reason in LONG_FILES"
    assert set(LONG_FILES) <= set(lengths)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_that_it_is_typed(package: str) -> None:
    assert (PACKAGES[package] / "py.typed").is_file()


# -- a light start -----------------------------------------------------------------------------------------------------

COMMAND = str(Path(sys.executable).with_name("flowprep"))
FUSION_COMMAND = str(Path(sys.executable).with_name("fusion-train"))


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import flowprep"],
        [COMMAND, "--help"],
        [COMMAND, "extract", "--help"],
        [COMMAND, "flow", "--help"],
        [COMMAND, "synth", "--help"],
        [FUSION_COMMAND, "--help"],
        [FUSION_COMMAND, "check", "--help"],
        [FUSION_COMMAND, "predict", "--help"],
    ],
    ids=lambda command: (
        command[-1] if command[0] == sys.executable else " ".join([Path(command[0]).name, *command[1:]])
    ),
)
def test_starts_without_heavy_libraries(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "flowprep" in loaded, "the list of imports was not understood"
    assert HEAVY & {module.partition(".")[0] for module in loaded} == set()


# -- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel that is built here, with the build backend of pyproject.toml and no network."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_installs_the_three_packages_and_nothing_else(wheel_names: list[str]) -> None:
    top = {name.partition("/")[0] for name in wheel_names}
    assert top == {*PACKAGES, f"flowprep-{flowprep.__version__}.dist-info"}


def test_wheel_has_every_module(wheel_names: list[str]) -> None:
    expected = {
        f"{package}/{path.relative_to(folder)}" for package, folder in PACKAGES.items() for path in folder.rglob("*.py")
    }
    expected |= {f"{package}/py.typed" for package in PACKAGES}
    expected |= {f"fusion_train/reporting/templates/{name}" for name in ("page.html", "style.css", "sort.js")}
    assert expected <= set(wheel_names)


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == flowprep.__version__
    assert f"## {flowprep.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
