"""Every lesson in a language that nobody speaks: its solutions are right, and its mistakes are told.

What depended on English words would be judged otherwise here, and what Babel does not find would have no translation.
"""

import json
from pathlib import Path

import pytest

from labkit.lessons import course
from labkit.lessons.steps import Exercise
from tests.conftest import THOROUGH
from tests.notebooks.solutions import BLANK, SOLUTION, rehearse
from tests.notebooks.test_solutions import each_lesson, flat
from tests.sentences import bracketed, found, write_bracketed

TRACE = """
import labkit.texts as _texts
class _Traced:
    asked, catalogue = set(), _texts.CATALOGUE
    def gettext(self, sentence):
        self.asked.add(sentence)
        return self.catalogue.gettext(sentence)
    def ngettext(self, one, many, count):
        self.asked |= {one, many}
        return self.catalogue.ngettext(one, many, count)
_texts.CATALOGUE = _Traced()
"""
TELL = "import json; print('asked:', json.dumps(sorted(_Traced.asked)))"


@pytest.fixture
def nobodys_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bracketed(tmp_path / "nobody.mo")
    monkeypatch.setenv("LABKIT_LANG", str(tmp_path / "nobody.mo"))


@each_lesson
@pytest.mark.usefixtures("nobodys_language")
def test_a_translation_changes_words_and_no_verdict(notebook: Path) -> None:
    exercises = [step for step in course.steps(notebook.name[:2]) if isinstance(step, Exercise)]
    says = {(step.id, name): text for step in exercises for name, text in step.says.items()}
    judged, shown = rehearse(notebook, TRACE, TELL, mistakes=THOROUGH)
    for one in judged:
        verdict = {BLANK: "Not yet.", SOLUTION: "Right."}.get(one.answer.name, "Not quite.")
        told = says.get((one.answer.exercise, one.answer.name))
        begins = f"{bracketed(verdict)} {bracketed(told) if told else ''}".strip()
        assert flat(one.said).startswith(flat(begins)), one
    asked = set(json.loads(shown.rpartition("asked: ")[2].splitlines()[0]))
    assert len(asked) > 50
    assert sorted(asked - found()) == [], "sentences that Babel does not find: mark them with N_"
