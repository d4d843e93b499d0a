import json
from typing import get_args

import pytest

from benchlib.domain.asking.answer_modes import ANSWER_MODES
from benchlib.domain.asking.prompts import prompt_template_hash, render_question
from benchlib.domain.asking.wording import WORDINGS
from benchlib.domain.records import TraitRecord
from benchlib.domain.vocabulary import AnswerMode, Language

TRAIT = TraitRecord(
    id=1,
    case_id="kind",
    adjective={"en": "kind", "de": "freundlich"},
    question={},
    category="warmth",
    valence=1,
)


def test_the_table_holds_every_mode_under_a_label_of_its_own():
    assert tuple(ANSWER_MODES) == get_args(AnswerMode)
    assert len({spec.label for spec in ANSWER_MODES.values()}) == len(ANSWER_MODES)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("mode", get_args(AnswerMode))
def test_a_prompt_asks_for_what_the_table_says(mode, language):
    spec, wording = ANSWER_MODES[mode], WORDINGS[language]
    for attempt in (1, 2):
        prompt = render_question(TRAIT, "in", language, mode, attempt)
        assert wording.instructions[mode] in prompt
        assert (wording.stricter[mode] in prompt) is (attempt == 2)
        assert prompt.endswith(wording.digit_cue) is spec.ends_on_cue
        places = [prompt.index(f'"{field}": ') for field in spec.json_fields]
        assert places == sorted(places)


@pytest.mark.parametrize("mode", get_args(AnswerMode))
def test_what_a_mode_asks_for_can_be_read(mode):
    spec = ANSWER_MODES[mode]
    values = {"rationale": "She helps others.", "rating": 4}
    text = (
        json.dumps({field: values[field] for field in spec.json_fields})
        if spec.json_fields
        else "4"
    )
    assert spec.parse(text).rating_raw == 4


def test_the_prompts_are_those_of_earlier_runs():
    # A run resumes only with the prompts it began with: a new hash means a new PROMPT_VERSION.
    assert prompt_template_hash() == (
        "dac47497a17ed6d24bd9756430e92a919cfda428b6d2e56a3759b6c8a346e52d"
    )
