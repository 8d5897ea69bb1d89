"""The house: imports point one way, the book knows no tool, Keras stays in its corner, doors are thin."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "unet_lowlevel"

# From the ground up: a module imports from lower floors and, within a folder, from its neighbours.
FLOORS = [
    ["errors", "config"],
    ["core"],
    ["settings", "geometry", "machine", "packages", "terminal", "disk", "markdown"],
    ["pictures", "run_folder", "memory", "summary", "ray_session"],
    ["data", "scoring"],
    ["planning"],
    ["training"],
    ["inference"],
    ["reference"],
    ["export", "laboratory"],
    ["cli"],
    ["__main__"],
]
# What only names a thing of a higher floor for a moment: the classmethod by which people make a configuration, and the
# end of a training, which predicts the held-out images to choose thresholds, and writes the model card.
EXCEPTIONS = {
    ("unet_lowlevel.config", "unet_lowlevel.settings"),
    ("unet_lowlevel.training.train", "unet_lowlevel.inference.after_training"),
}
# The way from a pixel to an updated weight with the default settings.
PATH = ["activations", "batch_normalization", "convolution", "cropping", "initializers", "pooling"]
PATH = [f"ops/{name}" for name in [*PATH, "transposed_convolution"]] + ["unet", "losses", "optimizers", "step"]

FILES = [ROOT / "setup.py", *(path for part in (PACKAGE, "scripts", "tests") for path in (ROOT / part).rglob("*.py"))]


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path):
    """unet_lowlevel/data/files.py -> 'unet_lowlevel.data.files'."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(FILES) if path.is_relative_to(ROOT / PACKAGE)}


def imported(path):
    """Full names of all that a file imports, also inside of functions."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(module):
    """The package's modules that a module imports: of `from package.module import name`, the module."""
    found = {name if name in MODULES else name.rpartition(".")[0] for name in imported(MODULES[module])}
    found = {name for name in found if name.split(".")[0] == PACKAGE and (module, name) not in EXCEPTIONS}
    return sorted(found)


def part_of(module):
    """unet_lowlevel.data.files -> 'data'; '' for the package itself, which imports its public names lazily."""
    return [*module.split("."), ""][1]


def floor_of(module):
    """Number of the floor; the package itself lies below all."""
    if not part_of(module):
        return -1
    floors = [i for i, parts in enumerate(FLOORS) if part_of(module) in parts]
    assert floors, f"{module} has no place yet: give it one in FLOORS"
    return floors[0]


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module)])
def test_imports_point_down(module):
    for other in own_imports(module):
        assert part_of(other) == part_of(module) or floor_of(other) < floor_of(module), f"{module} imports {other}"


def test_the_book_imports_nothing_but_the_dataclasses_of_the_settings():
    for module in MODULES:
        if part_of(module) == "core":
            others = {other for other in own_imports(module) if part_of(other) != "core"}
            assert others <= {"unet_lowlevel.config"}, f"{module} imports {others}"


def test_the_book_does_not_import_its_fast_forms():
    book = [module for module in MODULES if part_of(module) == "core" and not module.endswith(".fast")]
    assert len(book) > 10
    for module in book:
        assert f"{PACKAGE}.core.fast" not in own_imports(module)


def test_the_way_from_a_pixel_to_an_updated_weight_is_short():
    """Without what each file shows of itself when it is run, which is not on the way."""
    texts = [(ROOT / PACKAGE / "core" / f"{name}.py").read_text() for name in PATH]
    lines = [len(text.partition('if __name__ == "__main__":')[0].rstrip().splitlines()) for text in texts]
    assert sum(lines) <= 900


def test_geometry_knows_no_tensors():
    assert not {name for name in imported(MODULES[f"{PACKAGE}.geometry"]) if name.startswith(("tensorflow", "numpy"))}


def test_no_imports_in_circles():
    """Between neighbours too: modules whose imports are all placed are placed, until none is left."""
    waiting = {module: set(own_imports(module)) - {module} for module in MODULES if part_of(module)}
    while waiting:
        free = [module for module, others in waiting.items() if not others & waiting.keys()]
        assert free, f"these import each other in a circle: {sorted(waiting)}"
        for module in free:
            del waiting[module]


def test_every_package_is_importable_as_one():
    """A folder without __init__.py would be left out by setup.py."""
    for module in MODULES:
        parent = module.rpartition(".")[0]
        assert not parent or parent in MODULES, f"{parent} lacks __init__.py"


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) != "reference"])
def test_keras_stays_in_reference(module):
    names = {part for name in imported(MODULES[module]) for part in name.split(".")}
    names |= {node.attr for node in ast.walk(tree_of(MODULES[module])) if isinstance(node, ast.Attribute)}
    assert not names & {"keras", "tf_keras", "compat"}


def test_networks_are_not_told_apart_by_their_exact_type():
    for module, path in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Compare) and part_of(module) != "reference":
                assert "type(self.model)" not in ast.unparse(node) and "type(model)" not in ast.unparse(node), module


def test_one_function_puts_files_in_their_place():
    """It alone waits until they are on the disk."""
    for module, path in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and module != f"{PACKAGE}.disk":
                called = ast.unparse(node.func)
                assert called not in ("os.rename", "os.replace", "shutil.move"), f"{module} calls {called}"
                assert not called.endswith(".rename"), f"{module} calls {called}"


def test_arguments_are_parsed_in_cli_only():
    """The rest can be used from a notebook."""
    users = [module for module in MODULES if "argparse" in imported(MODULES[module])]
    assert users and all(part_of(module) == "cli" for module in users)


NO_DOORS = ("augmentation_times.py", "door.py", "export_comparison.py", "packing_times.py")
NO_DOORS += ("readme_tables.py", "scaling.py", "unet_drawing.py")


def test_printing_is_left_to_the_terminal():
    """Which goes on where it fails. Two exceptions speak where `terminal` may be impossible to import; the third is of
    the book, which imports no tool."""
    exceptions = {"unet_lowlevel.cli", "unet_lowlevel.cli.process", "unet_lowlevel.core.demonstration"}
    for module in MODULES.keys() - exceptions:
        for node in ast.walk(tree_of(MODULES[module])):
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"), f"{module}:{node.lineno}"


def test_scripts_are_thin():
    doors = sorted(path for path in (ROOT / "scripts").glob("*.py") if path.name not in NO_DOORS)
    assert len(doors) > 10
    for path in doors:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 10, path.name
        assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in ast.walk(tree_of(path))), path.name


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_star_imports_and_no_kwargs_passed_on(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.names[0].name != "*", f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Call):
            passed_on = [word.value.id for word in node.keywords if not word.arg and isinstance(word.value, ast.Name)]
            assert "kwargs" not in passed_on, f"{path.name}:{node.lineno}"
