import pytest

from benchlib.application.commands import StartBenchmark
from benchlib.domain.errors import InvalidInput


def test_the_least_a_run_needs_is_a_dataset():
    command = StartBenchmark.of(dataset_id=1)
    assert (command.mode, command.scale_mode, command.temperature) == (
        "distribution",
        "random50",
        0,
    )


def test_the_predecessors_rationale_switch_still_works():
    assert StartBenchmark.of(dataset_id=1, include_rationale=True).mode == "rationale"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "name a dataset_id"),
        ({"dataset_id": 0}, "dataset_id: Input should be greater than or equal to 1"),
        ({"dataset_id": 1, "dual_fraction": 1.5}, "dual_fraction: .*less than or equal to 1"),
        ({"dataset_id": 1, "dual_fraction": float("nan")}, "dual_fraction"),
        ({"dataset_id": 1, "scale_mode": "up"}, "scale_mode: Input should be 'in', 'rev'"),
        ({"dataset_id": 1, "tempo": 1}, "tempo: Extra inputs are not permitted"),
        ({"dataset_id": 1, "trait_ids": []}, "trait_ids is empty"),
        ({"dataset_id": 1, "max_attempts": 0}, "max_attempts"),
        ({"dataset_id": 1, "batch_size": 0}, "batch_size"),
        ({"dataset_id": 1, "vllm_base_url": "ftp://x"}, "vllm_base_url: .*http"),
        ({"dataset_id": 1, "vllm_base_url": "http://me:pw@host"}, "vllm_base_url: .*key"),
        (
            {"dataset_id": 1, "include_rationale": True, "answer_mode": "rating"},
            "include_rationale needs answer_mode rationale",
        ),
        ({"resume_run_id": 2, "seed": 4}, "a resumed run keeps its configuration; leave out seed"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(fields, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        StartBenchmark.of(**fields)


def test_a_refused_key_is_not_repeated():
    with pytest.raises(InvalidInput) as raised:
        StartBenchmark.of(dataset_id=1, vllm_api_key=["sk-very-secret"])
    assert "sk-very-secret" not in str(raised.value)


def test_a_key_does_not_show_in_the_command():
    command = StartBenchmark(dataset_id=1, vllm_api_key="sk-very-secret")
    assert "sk-very-secret" not in repr(command) + str(command.model_dump())
