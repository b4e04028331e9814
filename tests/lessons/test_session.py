"""A session: what it says to right and wrong, to blanks, to cells out of order; and that it never raises at a learner."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.lessons import course
from labkit.lessons.evidence import Evidence, Missing
from labkit.lessons.progress import BadProgress, Entry, Progress, told_apart
from labkit.lessons.session import NotRight, Session
from labkit.lessons.steps import Exercise, Experiment

LETTER = labkit.sample_message()


@pytest.fixture(scope="module")
def provider() -> Iterator[labkit.Provider]:
    with labkit.Provider("smtp-auth", repeatable=True) as running:
        yield running


@pytest.fixture(scope="module")
def refused(provider: labkit.Provider) -> labkit.Capture:
    with provider.capture("tap") as capture, pytest.raises(labkit.LabError, match="530"):
        provider.client("hanako", outgoing_requires_authentication=False).send(LETTER)
    return capture


@pytest.fixture(scope="module")
def sent(provider: labkit.Provider) -> labkit.Capture:
    with provider.capture("tap") as capture:
        provider.client("hanako").send(LETTER)
    return capture


@pytest.fixture(scope="module")
def strange(sent: labkit.Capture) -> dict[str, labkit.Capture]:
    """Captures that are of something else than a lesson asks for."""
    with labkit.Provider("ssl", repeatable=True) as ssl, ssl.capture("tap") as encrypted:
        ssl.client("taro").receive()
    with labkit.Provider("plaintext", repeatable=True) as plain, plain.capture("tap") as read:
        plain.client("taro").receive()
    with labkit.Provider("plaintext", repeatable=True) as plain, plain.capture("tap") as nothing:
        pass
    with labkit.Provider("plaintext", repeatable=True) as plain, plain.capture("tap") as unproved:
        plain.client("taro").send(LETTER)
    with labkit.Provider("smtp-auth", repeatable=True) as auth, auth.capture("tap") as login:
        auth.client("taro", mechanism="LOGIN").send(LETTER)
    return {"tls": encrypted, "pop3": read, "empty": nothing, "open": unproved, "login": login, "sent": sent}


@pytest.fixture
def session() -> Session:
    return Session()


def test_a_prediction_is_recorded_and_met_by_the_wire(session: Session, refused: labkit.Capture) -> None:
    assert session.predict("03-1", "C)").text() == "Recorded. Your prediction for 03-1 is c."
    said = session.reveal("03-1", refused).text()
    assert said.startswith("The wire says b.")
    assert "S: · 530 5.7.0 Authentication required" in said
    assert "You predicted c." in said
    assert "It need not wait so long" in " ".join(said.split())
    assert session.predict("03-1", "c").text().startswith("Recorded.")
    assert session.predict("03-1", "b").text().startswith("Too late.")


def test_a_right_prediction_is_told_so(session: Session, refused: labkit.Capture) -> None:
    session.predict("03-1", "b")
    assert session.reveal("03-1", refused).text().endswith("That was right.")


def test_the_truth_follows_the_capture_and_not_the_book(session: Session, strange: dict[str, labkit.Capture]) -> None:
    assert session.reveal("03-1", strange["open"]).text().startswith("The wire says a. The server took the letter")


@pytest.mark.parametrize("blank", [None, "", " ", ...])
def test_no_prediction_is_legal(session: Session, refused: labkit.Capture, blank: Any) -> None:
    assert session.predict("03-1", blank).text().startswith("No prediction. That is fine.")
    assert session.reveal("03-1", refused).text().endswith("You made no prediction here.")


@pytest.mark.parametrize("choice", ["d", 1, ["a"], {}, "ab"])
def test_an_impossible_prediction_is_not_recorded(session: Session, choice: Any) -> None:
    assert session.predict("03-1", choice).title in {"Not recorded.", "No prediction."}


def test_a_check_before_its_experiment_names_the_cell_to_run(session: Session, sent: labkit.Capture) -> None:
    said = " ".join(session.check("03-2", sent).text().split())
    assert said.startswith("First things first.")
    assert 'Run the cells down to `labkit.reveal("03-1", …)`' in said


def test_a_wrong_answer_gets_a_diagnosis_a_hint_and_a_place(session: Session, refused: labkit.Capture) -> None:
    session.reveal("03-1", refused)
    lines = session.check("03-2", refused).text()
    order = [lines.index(part) for part in ("Not quite.", "530", "Hint:", 'labkit.hint("03-2")', "Where to look:")]
    assert all(a < b for a, b in pairwise(order))


def test_hints_come_one_by_one_and_end(session: Session) -> None:
    exercise = course.step("03-2")
    assert isinstance(exercise, Exercise)
    counts = [len(session.hint("03-2").sentences) - 1 for _ in range(5)]
    last = len(exercise.hints) + 1
    assert counts == [min(n, last) for n in range(1, 6)]


@pytest.mark.parametrize("name", ["03-99", "99-1", "", "nonsense", None, 3, "03", ["03-1"], "../../x-1"])
@pytest.mark.parametrize("function", ["predict", "reveal", "check", "hint"])
def test_an_unknown_step_is_answered_kindly(session: Session, function: str, name: Any) -> None:
    assert getattr(session, function)(name).text().startswith("Not this. There is no step")


def test_an_experiment_is_no_exercise_and_the_other_way_round(session: Session) -> None:
    assert "is an experiment" in session.check("03-1", "a").text()
    assert "is an experiment" in session.hint("03-1").text()
    assert "is an exercise" in session.predict("03-2", "a").text()
    assert "is an exercise" in session.reveal("03-2").text()


@pytest.mark.parametrize("evidence", [(), ("capture",), (None,), (1, 2)])
def test_evidence_of_another_kind_is_told_what_is_wanted(session: Session, evidence: tuple[Any, ...]) -> None:
    said = " ".join(session.reveal("03-1", *evidence).text().split())
    assert '`labkit.reveal("03-1", …)` takes a capture. Run the cells above it as they stand' in said


STEPS = [step for number in course.numbers() for step in course.steps(number)]


@pytest.mark.parametrize("step", [s for s in STEPS if isinstance(s, Experiment)], ids=lambda step: step.id)
def test_no_capture_brings_a_reveal_or_its_checks_down(
    step: Experiment, provider: labkit.Provider, strange: dict[str, labkit.Capture]
) -> None:
    for capture in strange.values():
        session = Session()
        evidence = [provider if kind is labkit.Provider else capture for kind in step.takes]
        assert session.reveal(step.id, *evidence).text()
        for exercise in (s for s in STEPS if isinstance(s, Exercise) and s.needs == step.id):
            for answer in (None, "A", "x", 7, [1], {}, capture, provider, ["question"] * 4):
                assert session.check(exercise.id, answer).title in {
                    "Not yet.",
                    "Not quite.",
                    "First things first.",
                    "Right.",
                }


@pytest.mark.parametrize(
    "step", [s for s in STEPS if isinstance(s, Exercise) and not s.needs], ids=lambda step: step.id
)
def test_no_answer_brings_a_check_without_evidence_down(
    step: Exercise, provider: labkit.Provider, strange: dict[str, labkit.Capture]
) -> None:
    for answer in (None, "A", 7, [1], provider, *strange.values()):
        assert Session().check(step.id, answer).title in {"Not yet.", "Not quite."}


def test_a_stopped_provider_is_a_sentence(session: Session, strange: dict[str, labkit.Capture]) -> None:
    with labkit.Provider("smtp-auth", repeatable=True) as stopped, stopped.capture("tap") as names:
        for _twice in range(2):
            with pytest.raises(labkit.LabError):
                stopped.client("hanako", password="wrong").send(LETTER)
    session.reveal("03-3", stopped, names)
    assert "does not run" in session.check("03-4", "login").text()


def test_lessons_number_their_steps_in_order_and_need_what_comes_before() -> None:
    for number in course.numbers():
        steps = course.steps(number)
        assert [step.id for step in steps] == [f"{number}-{n}" for n in range(1, len(steps) + 1)]
        seen: set[str] = set()
        for step in steps:
            if isinstance(step, Experiment):
                seen.add(step.id)
                assert set(step.replies) < set(step.letters)
                assert step.truth or not step.replies
            else:
                assert step.needs is None or step.needs in seen
                assert tuple(step.says) == step.answer.known_mistakes, "each known mistake is told, the first that fits"
                assert step.hints
                assert step.where


def test_evidence_says_what_it_misses(strange: dict[str, labkit.Capture]) -> None:
    plain = course.step("03-5")
    assert isinstance(plain, Experiment)
    assert plain.truth
    with pytest.raises(Missing, match="Nobody logged in"):
        plain.truth(Evidence((strange["empty"],)))


def test_html_says_the_same_words_and_escapes_them(session: Session, refused: labkit.Capture) -> None:
    note = session.reveal("03-1", refused)
    html = note.html()
    assert "<strong>The wire says b.</strong>" in html
    assert "FROM:&lt;hanako@mail.example&gt;" in html
    assert "<script" not in session.check("<script>-1", "").html()
    assert '<code class="labkit-wire">labkit.reveal(&#34;03-1&#34;, …)</code>' in Session().check("03-2").html()


def test_under_nbgrader_only_a_right_answer_passes(
    session: Session, refused: labkit.Capture, sent: labkit.Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(NotRight, match="First things first"):
        session.check("03-2", sent)
    session.reveal("03-1", refused)
    with pytest.raises(NotRight, match=r"Not quite\."):
        session.check("03-2", refused)
    assert session.check("03-2", sent).is_right


def worked(refused: labkit.Capture, sent: labkit.Capture) -> Session:
    session = Session()
    session.predict("03-1", "a")
    session.reveal("03-1", refused)
    session.check("03-2", refused)
    session.check("03-2", refused)
    session.check("03-2", sent)
    session.hint("03-2")
    return session


def test_progress_tells_each_step_of_a_lesson_begun(refused: labkit.Capture, sent: labkit.Capture) -> None:
    progress = worked(refused, sent).progress()
    rows = {row[0]: row[1:] for row in progress.rows}
    asking = [step for step in STEPS if isinstance(step, Exercise) or step.truth]
    assert list(rows) == [step.id for step in asking if step.id.startswith("03-")]
    assert rows["03-1"] == ("a, the wire: b", "seen", "", "")
    assert rows["03-2"] == ("", "right", "2", "1")
    assert rows["03-4"] == ("", "not yet", "0", "0")
    assert '<th scope="row" style="text-align:left">03-2</th>' in progress.html()
    assert Session().progress().text().startswith("No progress yet")
    assert "No progress yet" in Session().progress().html()


def test_progress_is_saved_and_taken_up_again(refused: labkit.Capture, sent: labkit.Capture, tmp_path: Path) -> None:
    before = worked(refused, sent).progress()
    after = Session().resume(before.save(tmp_path / "hanako.json"))
    assert after.rows == before.rows


def test_a_class_is_counted_and_exported(refused: labkit.Capture, sent: labkit.Capture, tmp_path: Path) -> None:
    files = [worked(refused, sent).progress().save(tmp_path / f"{name}.json") for name in ("hanako", "=cmd")]
    files.append(Session().progress().save(tmp_path / "taro.json"))
    group = Session().progress(*files)
    rows = {row[0]: row[1:] for row in group.rows}
    assert rows["03-1"][0] == "0 of 2"
    assert rows["03-2"] == ("", "2", "0", "1", "switch-still-off (2)")
    with group.save(tmp_path / "class.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["learner"] for row in table} == {"hanako", "'=cmd"}
    assert {row["result"] for row in table if row["step"] == "03-2"} == {"right"}
    assert Progress.load([group.save(tmp_path / "class.json")]).rows == group.rows


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["hanako/en/progress.json", "taro/en/progress.json"], ["hanako/en/progress", "taro/en/progress"]),
        (["1/taro.json", "2/taro.json", "2/hanako.json"], ["1/taro", "2/taro", "hanako"]),
        (["taro.json", "taro/taro.json", "taro/taro/taro.json"], ["class/taro", "class/taro/taro", "taro/taro/taro"]),
        (["../taro.json", "hanako.json"], ["taro", "hanako"]),
    ],
)
def test_learners_whose_files_have_one_name_are_kept_apart(files: list[str], names: list[str], tmp_path: Path) -> None:
    home = tmp_path / "class"
    for file in files:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        Session().progress().save(home / file)
    assert list(Progress.load([home / file for file in files]).learners) == names


def test_learners_of_two_classes_are_kept_apart_and_nobody_is_counted_twice(tmp_path: Path) -> None:
    learners: dict[str, dict[str, Entry]] = {"hanako": {}, "taro": {}}
    files = [Progress(learners).save(tmp_path / f"{name}.json") for name in ("morning", "evening")]
    loaded = Progress.load(files).learners
    assert list(loaded) == ["morning.json/hanako", "morning.json/taro", "evening.json/hanako", "evening.json/taro"]
    with pytest.raises(BadProgress, match="counted twice"):
        Progress.load([files[0], tmp_path / "." / files[0].name])
    with pytest.raises(BadProgress, match="2 learners"):
        Session().resume(files[0])


def saved(learner: str = "x", step: str = "03-1", **values: str) -> bytes:
    """A saved progress of one step; values are JSON."""
    entry = {"prediction": '"a"', "wire": '"b"', "result": '"seen"', "tries": "0", "hints": "0", "misconceptions": "[]"}
    told = ", ".join(f'"{name}": {value}' for name, value in (entry | values).items())
    return f'{{"labkit-progress": 1, "learners": {{"{learner}": {{"{step}": {{{told}}}}}}}}}'.encode()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"labkit-progress": 2, "learners": {}}', b"[" * 100_000,
     b'{"labkit-progress": 1, "learners": {"x": {"03-1": {}}}}', b'{"labkit-progress": 1, "learners": 5}', b" " * 1_000_001,
     saved(tries="1e999"), saved(tries="NaN"), saved(hints="-3"), saved(hints="2.5"), saved(prediction='"\\ud800"'),
     saved(step="\\udcff"), saved(learner="\\ud800"), saved(misconceptions='["\\udfff"]'), saved(wire="1" * 5000)],
    ids=repr,
)  # fmt: skip
def test_a_file_that_holds_no_progress_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadProgress, match="holds no saved progress"):
        Progress.load([path])


def test_a_letter_that_is_no_longer_a_choice_counts_as_no_prediction(
    session: Session, refused: labkit.Capture, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(saved(prediction='"z"'))
    assert "z, the wire: b" in session.resume(path).text()
    assert session.reveal("03-1", refused).text().endswith("You made no prediction here.")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode elsewhere")
def test_a_learner_whose_files_name_is_not_unicode_is_shown_and_saved(tmp_path: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    strange.write_bytes(saved(learner=""))
    loaded = Progress.load([strange])
    assert list(loaded.learners) == [r"\xff"]
    assert Progress.load([loaded.save(tmp_path / "again.json")]).rows == loaded.rows


class Counted(str):
    """A part of a place that counts how often it is looked at."""

    looked_at = 0

    def __eq__(self, other: object) -> bool:
        Counted.looked_at += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        Counted.looked_at += 1
        return str.__hash__(self)


def test_the_work_to_tell_learners_apart_grows_with_their_number_and_not_its_square() -> None:
    def looks(learners: int) -> int:
        before = Counted.looked_at
        names = told_apart([(Counted(folder), Counted(f"{n}")) for n in range(learners) for folder in "ab"])
        assert names[:2] == ["a/0", "b/0"]
        return Counted.looked_at - before

    assert looks(400) <= 5 * looks(100)


def test_steps_that_no_lesson_has_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    steps = course.steps
    monkeypatch.setattr(course, "steps", lambda number: asked.append(number) or steps(number))
    assert Progress({"x": {f"{n:02}-1": Entry() for n in range(1000)}}).rows
    assert set(asked) <= set(course.numbers())


def test_where_progress_cannot_go(session: Session, tmp_path: Path) -> None:
    with pytest.raises(BadProgress, match=r"\.json or \.csv"):
        session.progress().save(tmp_path / "x.txt")
    with pytest.raises(BadProgress, match="cannot be written"):
        session.progress().save(tmp_path / "no" / "x.json")
    with pytest.raises(BadProgress, match="cannot be read"):
        session.resume(tmp_path / "none.json")


def test_what_is_saved_holds_no_answer(refused: labkit.Capture, sent: labkit.Capture, tmp_path: Path) -> None:
    saved = json.loads(worked(refused, sent).progress().save(tmp_path / "x.json").read_text(encoding="utf-8"))
    entry = saved["learners"][""]["03-2"]
    assert entry == {"prediction": "", "wire": "", "result": "right", "tries": 2, "hints": 1,
                     "misconceptions": ["switch-still-off"]}  # fmt: skip


def test_the_public_face_is_one_session(refused: labkit.Capture) -> None:
    names = ("predict", "reveal", "check", "hint", "progress", "resume")
    assert len({getattr(labkit, name).__self__ for name in names}) == 1
