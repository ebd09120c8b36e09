"""Check programs with type checkers, as users do: ``python -m tests.types``.

The programs are in the folder ``programs``; the code of some pages of the documentation
is checked as well. A mistake that a checker has to find has the mark ``# error`` at the
end of its line. ``# error: mypy, ty`` says that only these report the line, ``# error:
not mypy`` that all others do. Whatever else a checker reports is wrong, and so is what
it does not report.

The checkers are those of the environment that runs this, and they see the sa_history
and the SQLAlchemy that are installed in it. Each is as strict as it can be.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

HERE = Path(__file__).parent
PAGES = ["README.md", "docs/index.md", "docs/tutorial.md", "docs/typing.md"]
SCRIPTS = Path(sys.executable).parent

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TAB = re.compile(
    r"^:::\{tab-item\} (?P<label>[^\n]+)\n.*?^:::$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"# error(?:: (?P<but>not )?(?P<checkers>[\w, ]+))?$")

Line = tuple[str, int]
"""The name of a program, and the number of a line."""


@dataclass(frozen=True)
class Checker:
    """A type checker.

    :param command: its program and arguments; the programs are in the current folder.
    :param reports: yields the lines that its output reports, each with what it says.
    """

    command: list[str]
    reports: Callable[[str], Iterator[tuple[Line, str]]]

    def run(self, folder: Path) -> dict[Line, str]:
        """Return the lines that it reports, each with what it says of them."""
        program, *arguments = self.command
        done = subprocess.run(
            [str(SCRIPTS / program), *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        found = dict(self.reports(done.stdout))
        # There are mistakes in the programs, so without a report it has not worked.
        if not found:
            sys.exit(f"{program} reports nothing:\n{done.stdout}\n{done.stderr}")
        return found


def lines_of_text(output: str) -> Iterator[tuple[Line, str]]:
    """Yield the reports of a checker that writes ``file:line:...: error``."""
    for line in output.splitlines():
        report = re.match(r"(?P<file>\w+\.py):(?P<line>\d+):.*?\b(error|warning)", line)
        if report:
            yield (report["file"], int(report["line"])), line


def lines_of_pyright(output: str) -> Iterator[tuple[Line, str]]:
    """Yield the reports of pyright, whose lines are numbered from 0."""
    for report in json.loads(output)["generalDiagnostics"]:
        line = report["range"]["start"]["line"] + 1
        yield (Path(report["file"]).name, line), report["message"]


def lines_of_pyrefly(output: str) -> Iterator[tuple[Line, str]]:
    """Yield the reports of pyrefly."""
    for report in json.loads(output)["errors"]:
        yield (Path(report["path"]).name, report["line"]), report["description"]


PYRIGHT = ["--outputjson", "--pythonpath", sys.executable]
PYREFLY = ["--python-interpreter-path", sys.executable]
CHECKERS = {
    "mypy": Checker(["mypy", "--strict", "--no-pretty", "."], lines_of_text),
    "pyright": Checker(["pyright", *PYRIGHT], lines_of_pyright),
    "basedpyright": Checker(["basedpyright", *PYRIGHT], lines_of_pyright),
    "ty": Checker(
        ["ty", "check", "--python", sys.prefix, "--output-format", "concise"],
        lines_of_text,
    ),
    "pyrefly": Checker(
        ["pyrefly", "check", "--preset", "strict", "--output-format", "json", *PYREFLY],
        lines_of_pyrefly,
    ),
}


def programs() -> dict[str, str]:
    """Return the code of all programs, by the names of their files."""
    found = {path.name: path.read_text() for path in HERE.glob("programs/*.py")}
    for page in PAGES:
        path = HERE.parent.parent / page
        text, name = path.read_text(), f"page_{path.stem.lower()}"
        found[f"{name}.py"] = code_of(text, "Sync")
        if TAB.search(text):
            # It has "await" outside of functions, which a module must not have.
            main = textwrap.indent(code_of(text, "Async"), "    ")
            found[f"{name}_async.py"] = f"async def main() -> None:\n{main}"
    return found


def code_of(page: str, tab: str) -> str:
    """Return the code that a page shows where a tab is chosen."""
    chosen = TAB.sub(lambda match: match[0] if match["label"] == tab else "", page)
    return "\n".join(BLOCK.findall(chosen))


def marks(code: dict[str, str]) -> Iterator[tuple[str, Line]]:
    """Yield the lines with marks, for each checker that has to report one."""
    for name, text in code.items():
        for number, line in enumerate(text.splitlines(), 1):
            mark = MARK.search(line)
            if mark:
                named = mark["checkers"].split(", ") if mark["checkers"] else []
                assert set(named) <= set(CHECKERS), line
                is_excluded = mark["but"] is not None or not named
                for checker in CHECKERS:
                    if (checker in named) != is_excluded:
                        yield checker, (name, number)


def check(checker: Checker, code: dict[str, str]) -> dict[Line, str]:
    """Return the lines of the programs that a checker reports."""
    with tempfile.TemporaryDirectory() as folder:
        for file, text in code.items():
            Path(folder, file).write_text(text)
        strict = json.dumps({"typeCheckingMode": "strict"})
        Path(folder, "pyrightconfig.json").write_text(strict)
        return checker.run(Path(folder))


def main() -> int:
    """Run all checkers, and return 1 if one of them reports other lines than marked."""
    is_wrong = False
    code = programs()
    expected = set(marks(code))
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        results = executor.map(lambda checker: check(checker, code), CHECKERS.values())
    for name, found in zip(CHECKERS, results, strict=True):
        marked = {line for by, line in expected if by == name}
        missed, unmarked = sorted(marked - set(found)), sorted(set(found) - marked)
        print(
            f"{name}, SQLAlchemy {sqlalchemy.__version__}: "
            f"{len(marked) - len(missed)} of {len(marked)} mistakes found, "
            f"{len(unmarked)} other reports"
        )
        for file, number in missed:
            print(f"  {file}:{number}: is not reported")
        for file, number in unmarked:
            print(f"  {file}:{number}: {found[file, number]}")
        is_wrong = is_wrong or bool(missed or unmarked)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
