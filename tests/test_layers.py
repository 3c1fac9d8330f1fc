"""The order of the package: which module may import which, and what each must have."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vae_lessons"
TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")))

# A module imports only from rows below its own.
ROWS = {
    "grading": ["grade"],
    "grading one": ["submission"],
    "checks": ["checks"],
    "exercises": [
        "checks.better_models", "checks.bounds", "checks.bugs", "checks.building",
        "checks.codes_and_clouds", "checks.kl_and_likelihoods", "checks.measuring",
    ],
    "verdict": ["checks.verdict"],
    "uses": ["anomaly_detection", "compression", "image_generation", "music", "text"],
    "recipes": ["recipes"],
    "models": [
        "autoencoder", "classifier", "complete_implementation", "conditional_vae", "conv_vae",
        "debugging", "grey_vae", "hierarchical_vae", "linear_gaussian", "vae", "vq_vae",
    ],
    "contract": ["latent_model"],
    "measures": ["beta_vae", "evaluation", "frechet", "iwae", "latent_space"],
    "the bound": ["elbo"],
    "maths": ["flows", "kl", "likelihoods", "reparameterization"],
    "upper ground": ["pictures", "training"],
    "ground": ["data", "mlp", "plots", "progress", "show", "sound"],
    "bedrock": ["digits", "mnist"],
}
DEPTH = {word: depth for depth, row in enumerate(ROWS.values()) for word in row}


def module_name(path):
    """The name of a module inside the package: "kl", "checks" or "checks.verdict"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
MODULES = sorted(word for word in FILES if word)


def imported(word):
    """The modules of the package that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(parse(word)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "vae_lessons" if node.level else node.module
            found |= {base, *(f"{base}.{name.name}" for name in node.names)}
    inside = [name.split(".")[1:] for name in found if name.startswith("vae_lessons.")]
    deep = {".".join(parts[:2]) for parts in inside} & set(MODULES)
    return deep | {parts[0] for parts in inside if ".".join(parts[:2]) not in deep} & set(MODULES)


def parse(word):
    return ast.parse(FILES[word].read_text())


def public(word):
    """The public functions and classes of a module, and the public methods of those classes."""
    tree = parse(word)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("word", MODULES)
def test_module_has_a_row(word):
    assert word in DEPTH, f"say in tests/test_layers.py which row vae_lessons/{word}.py stands in"


@pytest.mark.parametrize("word", MODULES)
def test_module_imports_only_from_rows_below(word):
    wrong = [other for other in imported(word) if DEPTH[other] <= DEPTH[word]]
    assert not wrong, f"{word} may not import {wrong}: they stand in its row or above it"


def test_the_rows_hold_modules_that_exist():
    assert sorted(DEPTH) == MODULES


def test_package_itself_re_exports_nothing():
    statements = parse("").body
    assert all(isinstance(each, ast.Expr) for each in statements), "an import line says where from"


@pytest.mark.parametrize("word", MODULES)
def test_everything_public_has_a_docstring(word):
    assert ast.get_docstring(parse(word)), f"vae_lessons.{word} does not say what it is for"
    bare = [node.name for node in public(word) if not ast.get_docstring(node)]
    assert not bare, f"without a docstring in {word}: {bare}"


@pytest.mark.parametrize("word", MODULES)
def test_everything_public_is_named_in_a_test(word):
    untested = [node.name for node in public(word) if not re.search(rf"\b{node.name}\b", TESTS)]
    assert not untested, f"no test names these of {word}: {untested}"


@pytest.mark.parametrize("word", MODULES)
def test_module_stands_in_the_package_reference(word):
    reference = (ROOT / "book" / "reference.md").read_text()
    assert f".. automodule:: vae_lessons.{word}\n" in reference, f"add {word} to book/reference.md"
