"""The style that a linter has no rule for, as a test: each finding names its file and line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

OURS = ("onboard", "hw", "cloud_sync", "sim", "tests", "systemd", "docs", ".ci")
LINES_MAX = 400

BANNED_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
BANNED_ATTRIBUTES = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "random", "urandom", "sleep"}
FLAG = re.compile(r"(^|_)(sim|simulat(ed|ion|or|ing)|testing|replaying)($|_)", re.IGNORECASE)
# Taken apart, so that this file does not find itself.
INDEX = re.compile(
    r"-index" + r"-url|--find" + r"-links|https?://[^\s\"')]*(pypi|/simple/|files\.pythonhosted)", re.IGNORECASE
)
MACHINE = re.compile(r"(?<![\w.])/(home|root|Users|work|workspace)" + r"/\w")
LEFTOVER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def project_files(*endings: str) -> list[Path]:
    """Every file of the project (what a clone holds), by the ends of names; all without."""
    found = [file for file in ROOT.iterdir() if file.is_file() and file.name not in {".coverage", ".git"}]
    for folder in OURS:
        found += [file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return sorted(file for file in found if not endings or file.suffix in endings)


def matches(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in files
        for number, line in enumerate(read(file).splitlines(), start=1)
        if pattern.search(line)
    ]


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def impure_calls(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in BANNED_CALLS:
                yield f"{node.lineno}: {name}()"
            case ast.Call(func=ast.Attribute(attr=name)) if name in BANNED_ATTRIBUTES:
                yield f"{node.lineno}: .{name}()"
            case ast.AsyncFunctionDef() | ast.Await():
                yield f"{node.lineno}: async"
            case ast.Global(names=names):
                yield f"{node.lineno}: global {names}"
            case _:
                pass


def test_no_file_is_longer_than_one_reads() -> None:
    lengths = {file: read(file).count("\n") for file in project_files(".py", ".js", ".html", ".css")}
    assert len(lengths) > 20
    assert not {str(file.relative_to(ROOT)): count for file, count in lengths.items() if count > LINES_MAX}


def test_the_core_calls_nothing_impure() -> None:
    core = sorted((ROOT / "onboard" / "core").rglob("*.py"))
    assert core
    found = [f"{file.relative_to(ROOT)}:{each}" for file in core for each in impure_calls(read(file))]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "open('x')",
        "time.time()",
        "datetime.now()",
        "os.urandom(4)",
        "print(1)",
        "async def f(): ...",
        "def f(): global x",
    ],
)
def test_an_impure_call_is_seen(line: str) -> None:
    assert list(impure_calls(line))


def flags(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            names = [each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)]
            names += [each.attr for each in ast.walk(node.test) if isinstance(each, ast.Attribute)]
            names += [str(each.value) for each in ast.walk(node.test) if isinstance(each, ast.Constant)]
            yield from (f"{node.lineno}: {name}" for name in names if FLAG.search(name))


def test_no_code_asks_whether_it_is_simulated() -> None:
    product = [file for file in project_files(".py") if file.relative_to(ROOT).parts[0] in OURS[:4]]
    assert product
    assert not [f"{file.relative_to(ROOT)}:{each}" for file in product for each in flags(read(file))]


@pytest.mark.parametrize(
    "line",
    [
        "if simulation: ...",
        "x = 1 if settings.is_sim else 2",
        "while not testing: ...",
        "if environ.get('AMIBOX_SIM'): ...",
    ],
)
def test_a_flag_is_seen(line: str) -> None:
    assert list(flags(line))


def test_no_file_names_a_machine_or_an_index() -> None:
    files = project_files()
    assert any(file.name == "constraints.txt" for file in files)
    assert not matches(INDEX, files)
    assert not matches(MACHINE, files)


@pytest.mark.parametrize(
    "line", ["--index" + "-url=x", "https://py" + "pi.example.org/x", "-f https://a.b/" + "simple/x"]
)
def test_an_index_is_seen(line: str) -> None:
    assert INDEX.search(line)


def test_nothing_is_left_for_later() -> None:
    assert not matches(LEFTOVER, project_files(".py", ".js", ".html", ".md", ".toml", ".service"))


def test_the_links_of_the_documentation_lead_somewhere() -> None:
    broken = []
    for page in project_files(".md"):
        for link in LINK.findall(read(page)):
            target = link.partition("#")[0]
            if (
                target
                and "://" not in target
                and not target.startswith("mailto:")
                and not (page.parent / target).exists()
            ):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken
