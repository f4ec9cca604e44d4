"""The documents are true of the code: commands parse, paths and settings exist, papers are listed, links resolve."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from breakfix import config
from breakfix.cli.commands import COMMANDS, parse
from breakfix.config import Config
from breakfix.templates import COMMENTS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "breakfix"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPERS = (ROOT / "PAPERS.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PLACEHOLDERS = {
    "PATH": "my-run.yaml",
    "CONFIG": "my-run.yaml",
    "RUN": "runs/demo",
    "MODEL": "smollm2-135m-instruct",
    "NAME": "xstest",
    "ID": "V1",
    "N": "1",
    "WHAT": "report",
}
MADE_BY_A_RUN = {"breakfix.yaml", "ledger.db", "report.json", "report.html", "my-run.yaml", "first.html", "job.json",
                 "RUN/round-N/prescription.yaml", "prescription.1.yaml", "prescription.new.yaml",
                 "mine.yaml"}  # fmt: skip
ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
NOT_IN_CODE = {"2404.14219"}
# of judges: no method of anybody's paper
PLUMBING = {"ask", "card", "catalogue", "features", "fit", "labels", "linear", "rambles", "rejudge", "topic"}
SUFFIXES = r"(?:py|yaml|json|j2|css|md|toml|txt)"


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next one."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language ("" for those that name none)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def spans(text: str) -> list[str]:
    """The code spans outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def commands(text: str) -> Iterator[str]:
    """Every `breakfix ...` command line that a page shows; a name alone, outside a block, is a mention."""
    for block in blocks(text, "sh"):
        yield from (line for line in block.splitlines() if line.startswith("breakfix "))
    for span in spans(text):
        if re.fullmatch(r"breakfix \w[\w-]*", span):
            assert span.split()[1] in COMMANDS, span
        elif _sub_command(span):
            continue
        elif span.startswith("breakfix ") and span not in ("breakfix --help", "breakfix --version"):
            yield span


def _sub_command(span: str) -> bool:
    """`breakfix judges card`, say: a name, too."""
    program, name, child = (*span.split(), "", "", "")[:3]
    children = COMMANDS[name].children if program == "breakfix" and name in COMMANDS else ()
    return len(span.split()) == 3 and child in [one.name for one in children]


def words(command: str) -> list[str]:
    """A command line's words without the program's name and the comment, placeholders filled in."""
    line = command.partition("  #")[0]
    return [PLACEHOLDERS.get(word, word) for word in line.split()[1:]]


def tree() -> dict[str, str]:
    """Path → what the annotated tree says of it; folders end with /."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in blocks(section(README, "The source tree"), "")[0].splitlines():
        name, _, what = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name]
        assert len(above) == depth + 1, f"{line!r} is indented too deep"
        found["".join(above)] = what.strip()
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_parses(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        given = words(command)
        assert parse(given).command.name == given[0]


def test_every_command_is_in_the_readmes_table() -> None:
    shown = re.findall(r"^\| `breakfix ([\w-]+)", section(README, "Commands"), re.M)
    assert shown.count("ledger") == 1
    assert sorted(shown) == sorted(COMMANDS)


def test_the_session_has_ten_lines_and_begins_at_the_beginning() -> None:
    lines = blocks(section(README, "A session"), "sh")[0].splitlines()
    assert len(lines) == 10
    assert [words(line)[0] for line in lines[:3]] == ["init", "doctor", "run"]


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"demo", "test"} <= set(re.findall(r"^make (\w+)", blocks(section(README, "Start"), "sh")[0], re.M))
    for page in PAGES:
        for target in re.findall(r"`make (\w+)`", page.read_text(encoding="utf-8")):
            assert target in targets, f"{page.name}: make {target}"


def test_the_yaml_in_the_readme_is_a_config() -> None:
    [text] = blocks(README, "yaml")
    assert len(text.splitlines()) == 15
    found = config.parse(yaml.safe_load(text))
    assert found.name == "my-run"
    assert not set(found.redteam.seen) & set(found.redteam.held_out)


def test_every_path_in_the_tree_exists() -> None:
    for path in tree():
        place = ROOT / path
        assert place.is_dir() if path.endswith("/") else place.is_file(), path


def test_the_tree_leaves_out_no_folder_and_no_module_of_the_package() -> None:
    shown = tree()
    folders = {
        f"{folder.relative_to(ROOT).as_posix()}/"
        for folder in PACKAGE.rglob("*")
        if folder.is_dir() and folder.name != "__pycache__"
    }
    modules = {path.relative_to(ROOT).as_posix() for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert not (folders | modules) - set(shown)
    assert all(len(what) > 10 for path, what in shown.items() if path not in ("src/breakfix/", "docs/"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_resolves_within_the_project(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        place = (page.parent / target.partition("#")[0]).resolve()
        assert place.is_relative_to(ROOT), target
        assert place.exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_named_exists(page: Path) -> None:
    for span in spans(page.read_text(encoding="utf-8")):
        named = re.fullmatch(rf"[\w./-]+\.{SUFFIXES}", span)
        if named and span not in MADE_BY_A_RUN and "NAME" not in span:
            assert any((base / span).is_file() for base in (ROOT, PACKAGE, ROOT / "tests")), span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_named_exists(page: Path) -> None:
    sections = "|".join(name for name in Config.model_fields if f"{name}." in " ".join(COMMENTS))
    for span in spans(page.read_text(encoding="utf-8")):
        if re.fullmatch(rf"(?:{sections})(?:\.\w+)+", span) and not span.endswith(".py"):
            assert span in COMMENTS, span


def test_every_paper_of_the_code_is_in_papers() -> None:
    listed = set(ARXIV.findall(PAPERS))
    for path in [*PACKAGE.rglob("*.py"), PACKAGE / "data" / "taxonomy.yaml", PACKAGE / "data" / "assets.yaml"]:
        missing = set(ARXIV.findall(path.read_text(encoding="utf-8"))) - listed
        assert not missing, f"{path.relative_to(ROOT)} names {missing}"


def test_every_row_of_papers_names_files_that_are_there() -> None:
    rows = [line for line in PAPERS.splitlines() if line.startswith("|") and "`" in line]
    assert len(rows) > 30
    for row in rows:
        _, paper, files, differs, _ = row.split("|")
        named = re.findall(r"`([\w/]+\.py)`", files)
        assert named, row
        assert len(differs.strip()) > 5, row
        assert all((PACKAGE / name).is_file() for name in named), row
        code = "".join((PACKAGE / name).read_text(encoding="utf-8") for name in named)
        assert all(number in code for number in ARXIV.findall(paper) if number not in NOT_IN_CODE), row


def test_every_attack_and_judge_has_its_row_in_papers() -> None:
    for folder, shared in (
        (
            "redteam",
            {
                "base",
                "dialogue",
                "goals",
                "helper_words",
                "listing",
                "plan",
                "replay",
                "run",
                "sets",
                "steering",
                "table",
                "team",
                "texts",
            },
        ),
        ("judges", PLUMBING),
    ):
        for path in (PACKAGE / folder).glob("*.py"):
            if path.stem != "__init__" and path.stem not in shared:
                assert f"`{folder}/{path.name}`" in PAPERS, path.name


def test_every_package_that_is_imported_is_declared_and_none_is_for_nothing() -> None:
    """lm_eval, pyrit and garak come with an extra; whoever asks for DeepSpeed has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[><=\[;]", line)[0] for line in project["dependencies"]}
    owners = packages_distributions()
    imported: set[str] = set()
    extra = {"breakfix", "lm_eval", "pyrit", "garak", "deepspeed"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - extra
            imported |= {owners[top][0].lower().replace("_", "-") for top in tops}
    assert imported == declared
