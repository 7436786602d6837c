"""Who may import whom, and that breaking it is noticed. The rules are contracts in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LINTER = Path(sys.executable).with_name("lint-imports")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The product's rooms, to be spoiled."""
    for room in ("onboard", "hw", "cloud_sync", "sim"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "import_rules.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_each_room_imports_what_its_list_names() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_a_forbidden_import_is_named(tree: Path) -> None:
    spoiled = {
        "onboard/core/spoiled.py": ["time", "random", "datetime", "msgspec", "onboard.config", "hw.worker"],
        "onboard/spoiled.py": ["hw.worker", "sim", "cloud_sync.endpoint"],
        "onboard/__main__.py": ["sim"],
        "hw/spoiled.py": ["onboard.config", "cloud_sync.wire", "sim"],
        "cloud_sync/spoiled.py": ["hw.worker", "onboard.config", "cloud_sync.endpoint", "sim"],
        "cloud_sync/endpoint/spoiled.py": ["onboard.config", "sim"],
    }
    for file, imports in spoiled.items():
        with (tree / file).open("a") as module:
            module.writelines(f"import {name}\n" for name in imports)
    done = lint_imports(tree)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    for file, imports in spoiled.items():
        module_name = file.removesuffix(".py").replace("/", ".")
        told = {name for name in imports if f"{module_name}, line" in said and f"imports {name} " in f"{said} "}
        assert told == set(imports), (module_name, done.stdout)


def test_a_contract_for_a_room_that_is_gone_fails(tree: Path) -> None:
    rules = tree / "pyproject.toml"
    rules.write_text(rules.read_text().replace('rooms = ["hw"]', 'rooms = ["hardware"]'))
    done = lint_imports(tree)
    assert done.returncode == 1
    assert "hardware does not exist" in " ".join(done.stdout.split())
