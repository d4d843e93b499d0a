import pytest
from sqlalchemy import text

from benchlib.application.analysis import answer_panels
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import StartBenchmark
from benchlib.domain.errors import InvalidInput, NotFound, ReadOnly, WrongState
from benchlib.domain.records import Answer, AnswerFilter
from benchlib.infrastructure.storage import traits
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import Settings, get_settings
from tests.samples import NOW, add_dataset, add_run, add_traits, claim, get_run
from tests.scripted_client import rate, unusable


def test_a_service_without_arguments_reads_the_store_of_the_settings(tmp_path, monkeypatch):
    from benchlib.infrastructure.execution.executor import execute_benchmark_run
    from tests.samples import worker_context
    from tests.scripted_client import ScriptedClient

    monkeypatch.setenv("BENCHLIB_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    store = open_store(get_settings().store_url)
    assert add_run(store) == 1
    claim(store)
    execute_benchmark_run(worker_context(store, ScriptedClient()), 1)
    store.close()
    service = BenchmarkService()
    assert service.get_metrics(run_id=1)["ok"]
    service.close()
    get_settings.cache_clear()


def test_starting_queues_a_run_with_everything_that_was_chosen(service, store):
    dataset_id = add_dataset(store)
    chosen = add_traits(store)[1:3]
    run_id = service.start_benchmark(
        StartBenchmark.of(
            dataset_id=dataset_id,
            model_name="m",
            trait_ids=chosen,
            language="de",
            scale_mode="rev",
            dual_fraction=0.25,
            seed=9,
            system_prompt="Be brief.",
        )
    )
    run = service.get_run(run_id)
    assert (run["status"], run["model_name"], run["total"]) == ("queued", "m", 15)  # 12 + 3 dual
    assert run["config"]["trait_ids"] == chosen
    assert (run["config"]["language"], run["config"]["seed"]) == ("de", 9)
    assert (run["system_prompt"], run["include_rationale"]) == ("Be brief.", False)
    assert run["dataset"] == {"id": dataset_id, "name": "six", "kind": "imported"}
    assert run["created_at"].endswith("+00:00")


def test_a_key_is_nowhere_in_the_store(service, store):
    add_traits(store)
    command = StartBenchmark.of(
        dataset_id=add_dataset(store), model_name="m", vllm_api_key="sk-secret"
    )
    run_id = service.start_benchmark(command)
    with store.read() as session:
        dump = "".join(session.connection().connection.driver_connection.iterdump())
    assert "sk-secret" not in dump + str(service.get_run(run_id))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dataset_id": 77}, "There is no dataset 77"),
        ({"trait_ids": [999]}, "there is no trait 999"),
        ({"model_name": ""}, "model_name: name the model"),
    ],
)
def test_what_does_not_exist_cannot_be_run(service, store, fields, sentence):
    add_traits(store)
    given = {"dataset_id": add_dataset(store), "model_name": "m", **fields}
    with pytest.raises((InvalidInput, NotFound), match=sentence):
        service.start_benchmark(StartBenchmark.of(**given))
    assert service.list_runs() == []


def test_editing_a_trait_does_not_change_what_an_old_run_means(service, store, make_finished_run):
    run_id = make_finished_run()
    before = (
        service.get_metrics(run_id),
        service.runs.list_answers(run_id, AnswerFilter(), limit=100),
    )
    prompt = service.runs.get_prompt(run_id, before[1][0])
    with store.write() as session:
        old = traits.get_traits(session, [before[1][0].trait_id])[0]
        draft = traits.TraitDraft(
            old.case_id, {"en": "reversed", "de": "anders"}, old.question, "other", -old.valence
        )
        traits.edit_trait(session, old.id, draft, now=NOW)
    after = (
        service.get_metrics(run_id),
        service.runs.list_answers(run_id, AnswerFilter(), limit=100),
    )
    assert after == before
    assert service.runs.get_prompt(run_id, before[1][0])[1:] == prompt[1:]
    assert "reversed" not in prompt.user


def test_metrics_count_what_was_answered(service, make_finished_run):
    # 6 personas x 4 traits, in the order `in`, none dual; traits 3 and 4 are unfavourable
    run_id = make_finished_run(scale_mode="in", dual_fraction=0.0)
    metrics = service.get_metrics(run_id)
    answers = service.runs.list_answers(run_id, AnswerFilter(), limit=100)
    raw = [answer.rating_raw for answer in answers]
    assert metrics["n"] == len(answers) == 24
    assert metrics["hist"]["counts"] == [raw.count(k) for k in range(1, 6)]
    assert (metrics["n_personas"], metrics["missing"], metrics["failed"]) == (6, 0, 0)
    assert not metrics["preliminary"]
    assert set(metrics["attributes"]) == {"gender", "origin"}
    assert [row["category"] for row in metrics["trait_categories"]["summary"]] == [
        "competence",
        "warmth",
    ]


def test_means_follow_the_scale_and_the_valence(service, make_finished_run):
    def script(question):  # women are rated one point better, whatever the scale or valence
        good = 4 if question.item.persona.attributes["gender"] == "female" else 3
        high = good if question.item.trait.valence > 0 else 6 - good
        return Answer(high if question.item.scale_order == "in" else 6 - high)

    run_id = make_finished_run(script, scale_mode="rev", dual_fraction=0.0)
    rows = service.get_means(run_id, "gender")["rows"]
    assert {row["category"]: row["mean"] for row in rows} == pytest.approx(
        {"female": 4.0, "male": 3.0}
    )
    assert service.analysis.get_panel(answer_panels.all_means, run_id)["data"]["gender"] == rows
    with pytest.raises(InvalidInput, match="There is no attribute shoe; pick gender, origin"):
        service.get_means(run_id, "shoe")


def test_missing_names_what_has_no_rating(service, make_finished_run):
    run_id = make_finished_run(
        lambda q: unusable() if q.item.trait.case_id == "trait-3" else Answer(rate(q)),
        dual_fraction=0.0,
    )
    missing = service.runs.get_missing(run_id)
    assert (missing["total"], missing["done"], missing["missing"]) == (24, 18, 6)
    assert missing["failed"] == 6
    assert {sample["case_id"] for sample in missing["samples"]} == {"trait-3"}
    assert {sample["adjective"] for sample in missing["samples"]} == {"trait3"}
    assert len({sample["persona_uuid"] for sample in missing["samples"]}) == 6


def test_what_is_missing_and_what_failed_is_filtered_and_paged(service, make_finished_run):
    run_id = make_finished_run(
        lambda q: unusable() if q.item.trait.case_id in ("trait-1", "trait-3") else Answer(rate(q)),
        dual_fraction=0.0,
        max_attempts=2,
    )
    everything = service.runs.get_missing(run_id)["samples"]
    assert len(everything) == 12
    pages = [
        service.runs.get_missing(run_id, limit=5, offset=at)["samples"] for at in (0, 5, 10, 15)
    ]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [sample for page in pages for sample in page] == everything
    women = AnswerFilter(("trait-3",), attributes={"gender": "female"})
    of_women = service.runs.get_missing(run_id, women)
    assert of_women["missing"] == 12
    assert {(one["persona_uuid"], one["case_id"]) for one in of_women["samples"]} == {
        (f"persona-{number}", "trait-3") for number in (0, 2, 4)
    }

    failures = service.runs.list_failures(run_id, limit=100)
    assert len(failures) == 24
    assert service.runs.list_failures(run_id, AnswerFilter(kind="unusable"), limit=100) == failures
    assert service.runs.list_failures(run_id, AnswerFilter(kind="timeout")) == []
    chosen = service.runs.list_failures(run_id, women, limit=100)
    assert chosen == [
        failure
        for failure in failures
        if failure.case_id == "trait-3"
        and failure.persona_uuid in ("persona-0", "persona-2", "persona-4")
    ]
    assert len(chosen) == 6
    one = chosen[0]
    narrow = AnswerFilter(persona_uuid=one.persona_uuid, scale_order=one.scale_order)
    assert one in service.runs.list_failures(run_id, narrow)
    other = "rev" if one.scale_order == "in" else "in"
    assert one not in service.runs.list_failures(run_id, AnswerFilter(scale_order=other), limit=100)


def test_answers_are_filtered_and_paged(service, make_finished_run):
    run_id = make_finished_run()
    everything = service.runs.list_answers(run_id, AnswerFilter(), limit=100)
    pages = [
        answer
        for offset in range(0, 40, 10)
        for answer in service.runs.list_answers(run_id, AnswerFilter(), limit=10, offset=offset)
    ]
    assert pages == everything
    assert len(everything) == 36
    women = service.runs.list_answers(
        run_id, AnswerFilter(attributes={"gender": "female"}), limit=100
    )
    assert {answer.persona_uuid for answer in women} == {"persona-0", "persona-2", "persona-4"}
    narrow = AnswerFilter(("trait-1",), scale_order="rev", persona_uuid="persona-3")
    assert service.runs.list_answers(run_id, narrow, limit=100) == [
        answer
        for answer in everything
        if (answer.case_id, answer.scale_order, answer.persona_uuid)
        == ("trait-1", "rev", "persona-3")
    ]
    fives = service.runs.list_answers(run_id, AnswerFilter(rating_raw=5), limit=100)
    assert fives == [answer for answer in everything if answer.rating_raw == 5]


def test_an_edited_rating_never_shows_a_stale_number(service, store, make_finished_run):
    run_id = make_finished_run()
    before = service.get_metrics(run_id)["hist"]["counts"]
    with store.write() as session:
        session.connection().execute(text("UPDATE benchmarkresult SET rating_raw = 3"))
    after = service.get_metrics(run_id)["hist"]["counts"]
    assert after == [0, 0, 36, 0, 0] != before


def test_prompts_can_be_seen_before_a_run_in_both_orders(service, store):
    add_traits(store)
    command = StartBenchmark(dataset_id=add_dataset(store), model_name="m")
    planned = service.runs.preview_run(command)
    preview = planned.prompts
    assert "1 = not at all trait0" in preview["in"].user
    assert "1 = very trait0" in preview["rev"].user
    assert preview["in"].user.splitlines()[0] == preview["rev"].user.splitlines()[0]
    assert planned.n_prompts == 29  # 24 pairs, floor(0.2 * 24 + 0.5) of them dual


def test_tokens_are_guessed_from_the_length_of_prompts(service, store):
    add_traits(store)
    command = StartBenchmark(dataset_id=add_dataset(store), model_name="m")
    asked = service.runs.preview_run(command).prompts["in"]
    by_length = 29 * (len(asked.system) + len(asked.user)) / 4
    tokens = service.runs.preview_run(command).prompt_tokens
    assert tokens == pytest.approx(by_length, rel=0.02)
    in_german = command.model_copy(update={"language": "de"})
    assert service.runs.preview_run(in_german).prompt_tokens > tokens
    simulated = command.model_copy(update={"llm": "simulated", "model_name": None})
    assert service.runs.preview_run(simulated).prompt_tokens is None


def test_cancel_delete_and_resume_follow_the_state(service, store, make_finished_run):
    done = make_finished_run()
    with pytest.raises(WrongState, match="is done and cannot become queued; it is complete"):
        service.start_benchmark(StartBenchmark(resume_run_id=done))
    with pytest.raises(WrongState, match="cannot become cancelled"):
        service.runs.cancel_benchmark(done)
    with store.read() as session:
        dataset_id = service.get_run(done)["dataset_id"]
        first = traits.list_traits(session)[0].id
    command = StartBenchmark.of(dataset_id=dataset_id, model_name="m", trait_ids=[first])
    waiting = service.start_benchmark(command)
    assert service.runs.active_benchmark(dataset_id)["run_id"] == waiting
    with pytest.raises(WrongState, match="is queued; cancel it first"):
        service.runs.delete_run(waiting)
    service.runs.cancel_benchmark(waiting)
    assert service.bench_status(waiting)["status"] == "cancelled"
    assert not service.runs.active_benchmark(dataset_id)["active"]
    assert service.start_benchmark(StartBenchmark(resume_run_id=waiting)) == waiting
    assert get_run(store, waiting).status == "queued"
    assert service.runs.delete_run(done) == 36
    with pytest.raises(NotFound, match=f"There is no run {done}"):
        service.get_run(done)


def test_a_deleted_runs_id_is_never_used_again(service, make_finished_run, store):
    first = make_finished_run()
    config = get_run(store, first).config
    service.runs.delete_run(first)
    command = StartBenchmark.of(
        dataset_id=config.dataset_id, model_name="m", trait_ids=list(config.trait_ids)
    )
    assert service.start_benchmark(command) == first + 1


def test_notes_and_tags_are_kept(service, make_finished_run):
    run_id = make_finished_run()
    service.runs.annotate_run(run_id, note="pilot", tags=["a", " a ", "b", ""])
    run = service.get_run(run_id)
    assert (run["note"], run["tags"]) == ("pilot", ["a", "b"])


def test_read_only_refuses_every_write_and_shows_everything(store, tmp_path, make_finished_run):
    run_id = make_finished_run()
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path, read_only=True))
    for write in (
        lambda: service.start_benchmark(StartBenchmark(resume_run_id=run_id)),
        lambda: service.runs.cancel_benchmark(run_id),
        lambda: service.runs.delete_run(run_id),
        lambda: service.runs.annotate_run(run_id, note="", tags=[]),
    ):
        with pytest.raises(ReadOnly):
            write()
    assert service.get_metrics(run_id)["ok"]
    assert len(service.list_runs()) == 1


def test_health_tells_of_store_and_executor(service):
    assert service.get_health() == {
        "ok": True,
        "version": "0.1.0",
        "store": "ok",
        "executor": "not in this process",
    }


def test_a_run_asks_only_allowed_hosts(service, store):
    add_dataset(store)
    add_traits(store)
    fields = {"dataset_id": 1, "model_name": "m", "vllm_base_url": "http://10.0.0.7:8000"}
    with pytest.raises(InvalidInput, match="BENCHLIB_ENGINE_HOSTS"):
        service.start_benchmark(StartBenchmark.of(**fields))
    assert service.list_runs() == []
    (found,) = service.engines.test_connection("http://10.0.0.7:8000")
    assert not found["ok"]
    assert "BENCHLIB_ENGINE_HOSTS" in found["error"]
