"""Parts of the command line, worked by hand: what chat makes of a turn, progress lines, records in words, stages."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from breakfix.cli import output
from breakfix.cli.chat import talk
from breakfix.cli.look import account, near, tree
from breakfix.cli.progress import Lines, watching
from breakfix.core import Message, Reply, Sampling
from breakfix.errors import DiskFull, UserError
from breakfix.ledger import StageRow
from breakfix.models.fake import Echo, Scripted

GREEDY = Sampling(max_new_tokens=20)


# ---- chat -------------------------------------------------------------------------------------------------------


def said(prompt: tuple[Message, ...]) -> list[str]:
    return [f"{message.role}: {message.content}" for message in prompt]


def test_the_model_is_asked_with_the_whole_conversation() -> None:
    model = Scripted(["one", "two", "three"])
    assert list(talk(model, iter(["a", "", "b", "/reset", "c", "/quit", "d"]), GREEDY)) == ["one", "two", "three"]
    assert [said(prompt) for prompt in model.asked] == [
        ["user: a"],
        ["user: a", "assistant: one", "user: b"],
        ["user: c"],
    ]


def test_undo_takes_one_turn_back_and_the_system_prompt_stays(capsys: pytest.CaptureFixture[str]) -> None:
    model = Scripted(["one", "two", "three"])
    turns = iter(["/undo", "a", "b", "/undo", "c"])
    assert list(talk(model, turns, GREEDY, "be brief")) == ["one", "two", "three"]
    assert said(model.asked[-1]) == ["system: be brief", "user: a", "assistant: one", "user: c"]
    assert capsys.readouterr().err == "there is no turn to take back\ntaken back: b\n"


def test_a_turn_that_the_model_can_not_take_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    model = Scripted([Reply("", error="prompt of 3000 tokens exceeds the context of 2048"), "fine"])
    assert list(talk(model, iter(["long", "short"]), GREEDY)) == ["fine"]
    assert said(model.asked[-1]) == ["user: short"]
    assert capsys.readouterr().err == "prompt of 3000 tokens exceeds the context of 2048; /reset begins anew\n"


def test_a_reply_can_not_drive_the_terminal() -> None:
    [shown] = talk(Echo(), iter(["\x1b[2J\u202egnp.exe\x07"]), GREEDY)
    assert shown == "⟨U+001B⟩[2J⟨U+202E⟩gnp.exe⟨U+0007⟩"


# ---- progress ---------------------------------------------------------------------------------------------------


def test_progress_is_a_line_in_ten_seconds_with_what_is_left() -> None:
    times: Iterator[float] = iter([0.0, 0.0, 1.0, 5.0, 12.0, 13.0, 23.0, 24.0, 40.0])
    stream = io.StringIO()
    watch = Lines(stream, clock=lambda: next(times))
    watch.say("round 0: evaluate")  # at 0 s
    watch("benchmarks", 0, 100)  # 1
    watch("benchmarks", 10, 100)  # 5: too soon
    watch("benchmarks", 20, 100)  # 12: 20 in 11 s
    watch("benchmarks", 22, 100)  # 13: too soon
    watch.note("round 0: something is odd")  # news begin no stage
    watch("benchmarks", 50, 100)  # 23: 50 in 22 s
    watch.say("round 0: red\x1b[31mteam")  # 24
    watch("attacks", 0, 10)  # 40: nothing done yet, nothing to tell from
    assert stream.getvalue().splitlines() == [
        "round 0: evaluate",
        "round 0: evaluate: benchmarks 20/100, about 44.0 s left",
        "round 0: something is odd",
        "round 0: evaluate: benchmarks 50/100, about 22.0 s left",
        "round 0: red⟨U+001B⟩[31mteam",
        "round 0: red⟨U+001B⟩[31mteam: attacks 0/10",
    ]


def test_progress_outside_of_a_stage_is_said_by_itself() -> None:
    times: Iterator[float] = iter([0.0, 12.0])
    stream = io.StringIO()
    Lines(stream, clock=lambda: next(times))("replay", 0, 24)
    assert stream.getvalue() == "replay 0/24\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_lines_stay_above_one_live_bar_and_nothing_of_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with watching(stream) as watch:
        watch.say("round 0: evaluate [of 1]")
        watch("benchmarks [en], half of them", 50, 100)
        watch.say("round 0: redteam")
    screen = plain_screen(stream.getvalue())
    assert screen == ["round 0: evaluate [of 1]", "round 0: redteam"]
    assert "benchmarks [en], half of them" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def plain_screen(written: str) -> list[str]:
    """What is left to see, as a terminal would show it: it knows line feed, one line up, and clear this line."""
    rows, at = [""], 0
    for part in re.findall(r"\n|\x1b\[[0-9;?]*[a-zA-Z]|[^\n\x1b]+", written):
        if part == "\n":
            at += 1
            rows.extend([""] * (at + 1 - len(rows)))
        elif part == "\x1b[1A":
            at -= 1
        elif part == "\x1b[2K":
            rows[at] = ""
        elif not part.startswith("\x1b"):
            rows[at] += part.replace("\r", "")
    return [row.strip() for row in rows if row.strip()]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (754.2, "12 min 34 s"), (7380, "2 h 03 min")],
)
def test_minutes(seconds: float | None, shown: str) -> None:
    assert output.minutes(seconds) == shown


# ---- records, lineage, stages in words --------------------------------------------------------------------------


def test_a_record_in_lines() -> None:
    estimate = {"value": 0.25, "low": 0.1, "high": 0.5, "n": 8, "unscored": 1}
    record = {
        "rows": {"sft": 20, "dpo": 8},
        "share": estimate,
        "ids": ["V1", "V2"],
        "many": list(range(13)),
        "dropped": [{"step": "near", "n": 2}],
        "none": [],
        "ok": True,
        "loss": 0.123456,
        "name": "a\nb",
    }
    assert list(output.summary(record)) == [
        "rows:",
        "  sft: 20",
        "  dpo: 8",
        "share: 0.25 (0.1 to 0.5), n 8, 1 unscored",
        "ids: V1, V2",
        "many: 13 items",
        "dropped:",
        "  step near, n 2",
        "none: –",
        "ok: yes",
        "loss: 0.1235",
        "name: a↵b",
    ]


def test_lineage_in_lines() -> None:
    def node(id: str, **more: Any) -> dict[str, Any]:
        return {"id": id, "kind": "case", "summary": {}, "parents": [], "children": [], **more}

    root = node(
        "V1",
        kind="vulnerability",
        summary={"rate": 0.123456, "status": "open"},
        parents=[node("a1", kind="attempt", parents=[node("c1")]), node("c1", repeated=True)],
        children=[node("e1", kind="example")],
    )
    assert list(tree(root)) == [
        "vulnerability V1  [rate 0.123, status open]",
        "  ◀ attempt a1",
        "    ◀ case c1",
        "  ◀ case c1 (see above)",
        "  ▶ example e1",
    ]
    many = node("V1", parents=[node(f"c{i}", parents=[node("m", kind="model", repeated=i > 0)]) for i in range(4)])
    assert list(tree(many, 2)) == [
        "case V1",
        "  ◀ case c0",
        "    ◀ model m",
        "  ◀ case c1",
        "    ◀ model m (see above)",
        "  ◀ … 2 more of kind case; --all lists them",
    ]


def test_lineage_near_by() -> None:
    def node(id: str, *parents: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"id": id, "kind": "case", "summary": {}, "parents": list(parents), "children": [], **more}

    far = node("near", node("far"))
    root = node("V1", node("a", node("b", far)), node("near", repeated=True), node("a", repeated=True))
    assert [line.strip("◀ ") for line in tree(near(root, 3))] == [
        "case V1", "case a", "case b", "case near", "case near", "case far", "case a (see above)",
    ], "what is told further away in the whole is told here"  # fmt: skip
    two = near(root, 2)
    assert [line.strip("◀ ") for line in tree(two)] == [
        "case V1", "case a", "case b", "case near", "case far", "case a (see above)",
    ]  # fmt: skip
    assert "further" not in two and near(root, 1)["further"] == 2, "b and far"
    assert root["parents"][1] == node("near", repeated=True), "the whole is left as it was"


def test_an_attempt_says_how_it_ended_and_nothing_is_a_bare_truth_value() -> None:
    def said(**summary: Any) -> str:
        [line] = tree({"id": "x", "kind": "k", "summary": summary, "parents": [], "children": []})
        return line

    assert said(case="c1", breach=0, turns=1, error=False, result="broke in turn 1") == (
        "k x  [broke in turn 1, case c1, turns 1]"
    )
    assert said(inputs="ab", finished=True, seconds=2.0) == "k x  [finished, seconds 2]"
    assert said(finished=False) == "k x  [not finished]"
    assert (said(pair=True), said(pair=False)) == ("k x  [with a rejected answer]", "k x")


def stage(name: str, started: float, *, round: int = 1, seconds: float | None = None) -> StageRow:
    """A finished stage if `seconds` are given."""
    done = seconds is not None
    return StageRow(round, name, "d", {} if done else None, started, seconds, 1.0 if done else None, done, 1, started)


def test_of_a_busy_run_the_stage_begun_last_runs_and_the_one_it_is_part_of() -> None:
    rows = [stage("evaluate", 0, round=0, seconds=5), stage("train", 10), stage("train-sft", 11), stage("redteam", 6)]
    found = {s["stage"]: (s["state"], s["seconds"]) for s in account(rows, busy=True, now=20)}
    assert found == {
        "evaluate": ("done", 5),
        "train": ("running", 10),
        "train-sft": ("running", 9),
        "redteam": ("interrupted", None),
    }
    assert {s["state"] for s in account(rows, busy=False, now=20)} == {"done", "interrupted"}


# ---- files ------------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    output.save(path, json.dumps({"a": 1}))
    with pytest.raises(UnicodeEncodeError):
        output.save(path, "half a character: \ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_takes_the_text_and_a_link_stays_a_link(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    output.save(pipe, "rye\n")
    assert os.read(reader, 100) == b"rye\n" and pipe.is_fifo()
    os.close(reader)
    there, link, nowhere = tmp_path / "far" / "a.html", tmp_path / "link", tmp_path / "nowhere"
    there.parent.mkdir()
    there.write_text("old")
    link.symlink_to(there)
    nowhere.symlink_to("far/b.html")
    for one in (link, nowhere):
        output.save(one, "new")
        assert one.is_symlink() and one.read_text() == "new"
    assert sorted(path.name for path in there.parent.iterdir()) == ["a.html", "b.html"]


def test_stdout_by_name_takes_the_text_and_keeps_what_was_there(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("before\n")
    code = "from pathlib import Path; from breakfix.cli import output; output.save(Path('/dev/stdout'), 'rye\\n')"
    with notes.open("a") as to:
        subprocess.run([sys.executable, "-c", code], stdout=to, check=True)
    assert notes.read_text() == "before\nrye\n" and list(tmp_path.iterdir()) == [notes]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_folder_is_no_file_to_write(path: str) -> None:
    with pytest.raises(UserError, match=r"can't be written \(Is a directory\); give another path"):
        output.save(Path(path), "x")


def test_where_a_file_can_not_be_written() -> None:
    with pytest.raises(UserError, match=r"/dev/null/a.html: can't be written \(Not a directory\); give another path"):
        output.save(Path("/dev/null/a.html"), "x")
    assert issubclass(DiskFull, UserError)


# ---- the latest run


def test_the_latest_run_is_the_one_that_was_last_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite writes to its log first, and a report may be all that a finished run has written since."""
    import os

    from breakfix.cli.places import find

    monkeypatch.chdir(tmp_path)
    for at, name in enumerate(("a/ledger.db", "b/ledger.db", "c/ledger.db", "b/ledger.db-wal", "a/report.json")):
        file = Path("runs", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (at, at))
        assert find(None) == file.parent, name


def table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, *given: Any) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    output.table(*given)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def test_a_table_folds_and_loses_no_word_where_the_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["rye " * 10, "loaf"], ["wheat", "the loaf is baked and then it is cut"]]
    shown = " ".join(table(monkeypatch, capsys, 30, ["kind", "what"], rows)).split()
    assert sorted(shown) == sorted(" ".join(["kind what", *(cell for row in rows for cell in row)]).split())
    figure = ["many_loaves", "85 % (58 to 96), n 13, 8 unscored"]
    assert table(monkeypatch, capsys, 80, ["kind", "rose"], [figure])[1:] == ["  ".join(figure)]
    assert table(monkeypatch, capsys, 29, ["kind", "rose"], [figure]) == [
        "kind         rose",
        "many_loaves  85 % (58 to 96),",
        "             n 13, 8 unscored",
    ]
    narrow = [" ".join(line.split()) for line in table(monkeypatch, capsys, 19, ["kind", "rose"], [figure])]
    assert narrow == ["kind rose", "many_ 85 %", "loaves (58 to 96),", "n 13,", "8 unscored"]


def test_groups_of_columns_without_room_stand_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["kind", "baked", "cut", "eaten"], [["rye", "1 (0 to 9)", "2 (0 to 9)", "3 (0 to 9)"]], (), (1, 2, 1)
    assert len(table(monkeypatch, capsys, 60, *given)) == 2
    assert table(monkeypatch, capsys, 30, *given) == [
        "kind  baked       cut", "rye   1 (0 to 9)  2 (0 to 9)", "", "kind  eaten", "rye   3 (0 to 9)",
    ]  # fmt: skip
