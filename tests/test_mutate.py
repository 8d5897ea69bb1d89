"""The table of mutations fits the code and the tests as they are; `mutate.py` itself takes minutes."""

import ast
import functools
import re

import pytest
from mutate import ROOT, mutations

README = ROOT / "unet_lowlevel" / "core" / "README.md"
CODE = {module: (ROOT / module).read_text(encoding="utf-8") for module in {m.module for m in mutations()}}


@functools.cache
def dump_of(module):
    return ast.dump(ast.parse(CODE[module]))


@pytest.mark.parametrize("mutation", mutations(), ids=str)
def test_a_mutation_changes_one_place_into_other_code_and_names_tests_that_exist(mutation):
    code = CODE[mutation.module]
    assert code.count(mutation.old) == 1, "the code has moved on: mend the table"
    assert dump_of(mutation.module) != ast.dump(ast.parse(code.replace(mutation.old, mutation.new)))
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name or 'test_.*'}\(", (ROOT / file).read_text(encoding="utf-8"), re.M), test


def test_the_readme_tells_how_many_there_are():
    assert f"notice {len(mutations())} of {len(mutations())}" in README.read_text(encoding="utf-8")
