"""``make mutate``: change the deciding code in one small way after the other, and say what goes unnoticed.

mutmut makes the mutants (``[tool.mutmut]`` in ``pyproject.toml``), on a copy in ``mutants/``, and finds out which tests
reach each; mypy is asked: what it refuses needs no test. Then ``tests.mutants_tried`` runs those tests. What is dead
stays dead until its function or the settings change; what is alive is tried again, and a run that was ended goes on
where it stopped.
``docs/reliability.md`` holds the figures, and a reason for each mutant that lives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests import mutants_tried

MUTANTS = Path("mutants")
SETTINGS = MUTANTS / "settings"
WORDS = {
    1: "killed",
    3: "killed",
    37: "by types",
    0: "alive",
    5: "no test",
    33: "no test",
    34: "not run",
    None: "not run",
}
"""mutmut's exit codes. Every other one is a run that was ended from outside, for its time."""
BY_TYPES, LEFT_OUT = 37, 34
AGAIN = {"alive", "no test", "not run"}
COLUMNS = ("killed", "by types", "timeout", "alive", "no test", "not run")

MYPY = ("mypy", "--config-file=", "--strict", "--ignore-missing-imports", "--no-warn-unused-ignores", "--output=json")
"""As ``make types`` has it, but for settings that name folders; ``stricter`` adds its other rules."""
OF_THE_COPIES = ("has-type", "ignore-without-code", "misc", "no-redef", "type-var", "var-annotated")
"""Rules that may speak of how mutmut writes mutants down, beside one another."""
ROOMS = ("onboard", "hw", "cloud_sync")


def results() -> Iterator[tuple[Path, dict[str, int | None]]]:
    """Give mutmut's notes of each file that has mutants, and the exit codes in them by the mutant's name."""
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        if codes:
            yield meta, codes


def file_of(meta: Path) -> str:
    """Return the source file that mutmut's notes are about."""
    return str(meta.relative_to(MUTANTS).with_suffix(""))


def stricter() -> list[str]:
    """Return the rules that ``make types`` has besides the strict ones, by its own configuration."""
    wanted = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mypy"]
    codes = [code for code in wanted["enable_error_code"] if code not in OF_THE_COPIES]
    return ["--warn-unreachable", *(f"--enable-error-code={code}" for code in codes)]


def wrong_types() -> dict[str, set[str]]:
    """Ask mypy about every mutant at once: the mutated functions that it refuses, by file. Runs beside the mutants."""
    rules = [f"--disable-error-code={each}" for each in OF_THE_COPIES]
    rooms = [word for room in ROOMS for word in ("-p", room)]
    said = subprocess.run([*MYPY, *stricter(), *rules, *rooms], capture_output=True, text=True, check=False).stdout
    errors = [json.loads(line) for line in said.splitlines() if line.strip()]
    found: dict[str, set[str]] = {}
    for file in {error["file"] for error in errors}:
        spans = json.loads(Path(f"{file}.spans").read_text())["spans"]
        lines = [error["line"] for error in errors if error["file"] == file and error["severity"] == "error"]
        # Not the unmutated copy: what is wrong there is not the mutant's fault.
        found[file] = {
            name for name, (first, last) in spans.items() if any(first <= line <= last for line in lines)
        } - {name for name in spans if name.endswith("__mutmut_orig")}
    return found


def prepare() -> None:
    """Note which mutants mypy refuses, and leave the others to ``tests.mutants_tried``.

    mutmut calls it, in its folder, between making the mutants and running them, and takes it for a type checker.
    """
    refused = wrong_types()
    os.chdir("..")
    for meta, codes in results():
        file = file_of(meta)
        for name, code in codes.items():
            if name.rpartition(".")[2] in {each.rpartition(".")[2] for each in refused.get(file, ())}:
                codes[name] = BY_TYPES
            elif code in (None, BY_TYPES):
                codes[name] = LEFT_OUT
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"exit_code_by_key": codes}))
    sys.stdout.write('{"generalDiagnostics": []}')


def tell(files: list[str]) -> None:
    """Print a row a file, and each mutant that is not dead."""
    row = "{:36}{:>9}" + "{:>10}" * len(COLUMNS)
    lines, left, together = [row.format("file", "mutants", *COLUMNS)], [], Counter[str]()
    for meta, codes in results():
        if files and file_of(meta) not in files:
            continue
        counts = Counter(WORDS.get(code, "timeout") for code in codes.values())
        together += counts
        lines.append(row.format(file_of(meta), counts.total(), *(counts[column] for column in COLUMNS)))
        left += [name for name, code in codes.items() if WORDS.get(code) in ("alive", "no test")]
    lines.append(row.format("together", together.total(), *(together[column] for column in COLUMNS)))
    show = ("mutmut", "show")
    lines += [subprocess.run([*show, name], capture_output=True, text=True, check=False).stdout for name in left]
    sys.stdout.write("\n".join(lines) + "\n")


def begin_anew() -> None:
    """Forget everything where mutmut's settings are others than the last time: other tests, other mutants."""
    settings = repr(tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"])
    if not SETTINGS.exists() or SETTINGS.read_text() != settings:
        shutil.rmtree(MUTANTS, ignore_errors=True)
        MUTANTS.mkdir()
        SETTINGS.write_text(settings)


def main(files: list[str]) -> int:
    """Run what is not dead yet, of these files or of all, and tell; the exit code is mutmut's, or 2 for wrong words."""
    if strange := [each for each in files if not Path(each).is_file()]:
        sys.stderr.write(f"no such file: {' '.join(strange)}\n{__doc__}")
        return 2
    if shutil.which("mutmut", path=str(Path(sys.executable).parent)) is None:
        sys.stderr.write("There is no mutmut here. Use: make mutate (it installs the extra [mutation])\n")
        return 1
    begin_anew()
    # mutmut, mypy and python are this environment's.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    code = subprocess.run(["mutmut", "run", "--max-children=1"], check=False).returncode
    if code == 0:
        # In its own process: the code under test is mutmut's copy.
        code = subprocess.run(["python", "-m", "tests.mutants", "--try", *files], cwd=MUTANTS, check=False).returncode
    tell(files)
    return code


def try_them(files: list[str]) -> int:
    """Run tests on what is not dead yet, of these files or of all; called in mutmut's folder."""
    metas = [Path(f"{file}.meta") for file in files] or sorted(Path().rglob("*.py.meta"))
    return mutants_tried.main(metas, {code for code, word in WORDS.items() if word in AGAIN})


if __name__ == "__main__":
    if sys.argv[1:] == ["--prepare"]:
        prepare()
    elif sys.argv[1:2] == ["--try"]:
        sys.exit(try_them(sys.argv[2:]))
    else:
        sys.exit(main(sys.argv[1:]))
