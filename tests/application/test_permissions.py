"""Who may call what: every public method of the services is listed here, and held to its role."""

from types import SimpleNamespace

import pytest

from benchlib.application.analysis.run_analysis import RunAnalysis
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import StartBenchmark
from benchlib.application.dataset_designs import PoolDesign
from benchlib.application.dataset_service import DatasetService
from benchlib.application.engine_service import EngineService
from benchlib.application.permissions import ActingService
from benchlib.application.run_service import RunService
from benchlib.domain.errors import EngineNotReachable, InvalidInput, NotAllowed, ReadOnly
from benchlib.domain.material.traits import TraitDraft
from benchlib.domain.users import API_TOKEN, DASHBOARD, NOBODY, OWNER, Role, User
from benchlib.infrastructure.cache_warming import stop_warm_cache_jobs
from benchlib.infrastructure.engines.vllm_server import VllmServer
from benchlib.infrastructure.storage import audit
from benchlib.settings import Settings
from tests.samples import add_dataset, add_traits

VIEWER = User("vera@example.org", Role.VIEWER)
RESEARCHER = User("rosa@example.org", Role.RESEARCHER)
ADMIN = User("ada@example.org", Role.ADMIN)
DRAFT = TraitDraft("kind", {"en": "kind"}, {"en": "How {adjective}?"}, "warmth", 1)
TRAITS_CSV = b"case_id,adjective_en,category,valence\nfair,fair,morality,1\n"
PERSONAS_CSV = b"uuid,gender\nnew-1,female\nnew-2,male\n"
START = StartBenchmark(dataset_id=1, llm="simulated")

WRITES = {
    "BenchmarkService.start_benchmark": (Role.RESEARCHER, lambda s: s.start_benchmark(START)),
    "RunService.start_benchmark": (Role.RESEARCHER, lambda s: s.start_benchmark(START)),
    "RunService.cancel_benchmark": (Role.RESEARCHER, lambda s: s.cancel_benchmark(1)),
    "RunService.annotate_run": (
        Role.RESEARCHER,
        lambda s: s.annotate_run(1, note="n", tags=["a"]),
    ),
    "RunService.delete_run": (Role.ADMIN, lambda s: s.delete_run(2)),
    "EngineService.start_server": (Role.ADMIN, lambda s: s.start_server("model")),
    "EngineService.stop_server": (Role.ADMIN, lambda s: s.stop_server()),
    "RunAnalysis.start_warm_cache": (
        Role.RESEARCHER,
        lambda s: s.start_warm_cache(2),
    ),
    "RunAnalysis.clear_cache": (Role.RESEARCHER, lambda s: s.clear_cache(2)),
    "DatasetService.load_sample_data": (Role.ADMIN, lambda s: s.load_sample_data()),
    "DatasetService.import_personas": (
        Role.RESEARCHER,
        lambda s: s.import_personas(PERSONAS_CSV, "new.csv", "new"),
    ),
    "DatasetService.build_dataset": (
        Role.RESEARCHER,
        lambda s: s.build_dataset(PoolDesign((1,), {}), "pool"),
    ),
    "DatasetService.delete_dataset": (Role.ADMIN, lambda s: s.delete_dataset(2)),
    "DatasetService.import_traits": (Role.RESEARCHER, lambda s: s.import_traits(TRAITS_CSV)),
    "DatasetService.add_trait": (Role.RESEARCHER, lambda s: s.add_trait(DRAFT)),
    "DatasetService.edit_trait": (
        Role.RESEARCHER,
        lambda s: s.edit_trait(
            1, TraitDraft("trait-0", {"en": "new"}, {"en": "How {adjective}?"}, "warmth", 1)
        ),
    ),
    "DatasetService.set_trait_active": (
        Role.RESEARCHER,
        lambda s: s.set_trait_active(2, False),
    ),
}
GUARDED_READS = {
    "EngineService.test_connection": (
        Role.RESEARCHER,
        lambda s: s.test_connection("http://127.0.0.1:9"),
    ),
    "BenchmarkService.list_activity": (Role.ADMIN, lambda s: s.list_activity()),
    "BenchmarkService.count_activity": (Role.ADMIN, lambda s: s.count_activity()),
}
READ_VERBS = ("get_", "list_", "count_", "compare_", "preview_", "export_", "estimate_")
OTHER_READS = {
    *("acting_as", "may", "check", "check_address", "close"),
    *("bench_status", "active_benchmark", "default_engine", "server_state", "trait_categories"),
}
GUARDED = {**WRITES, **GUARDED_READS}
PARTS = {"RunService": "runs", "EngineService": "engines", "RunAnalysis": "analysis"}


class Services:
    """Both services over one store: a queued run 1, a cancelled run 2, and two datasets."""

    def __init__(self, store, folder, **settings):
        chosen = Settings(data_dir=folder, vllm_python="/bin/false", **settings)
        self.store = store
        self.by_name = {
            "BenchmarkService": BenchmarkService(store, None, chosen, NOBODY),
            "DatasetService": DatasetService(store, chosen.read_only, user=NOBODY),
        }

    def of(self, method, user):
        name = method.partition(".")[0]
        service = self.by_name["BenchmarkService" if name in PARTS else name]
        acting = service.acting_as(user) if user.role is not None else service
        return getattr(acting, PARTS[name]) if name in PARTS else acting


def furnished(store, folder):
    """Services over a store of their own."""
    add_dataset(store)
    add_dataset(store, 2, name="spare")
    add_traits(store)
    found = Services(store, folder)
    owner = found.by_name["BenchmarkService"].acting_as(OWNER)
    owner.start_benchmark(START)
    owner.runs.cancel_benchmark(owner.start_benchmark(START))
    return found


@pytest.fixture
def services(store, tmp_path):
    yield furnished(store, tmp_path)
    stop_warm_cache_jobs()  # a job that outlives the store would open it again


@pytest.fixture(scope="module")
def refusing(new_store, tmp_path_factory):
    """The same, shared by tests in which everything is refused."""
    folder = tmp_path_factory.mktemp("refusing")
    found = furnished(new_store(folder), folder)
    yield found
    found.store.close()


def snapshot(store):
    """Everything in the store, as SQL."""
    with store.read() as session:
        return list(session.connection().connection.driver_connection.iterdump())


def test_every_public_method_is_a_read_or_is_listed_with_its_role():
    unlisted, needing = set(), set()
    for service in (BenchmarkService, RunService, EngineService, RunAnalysis, DatasetService):
        for name in dir(service):
            method = getattr(service, name)
            if name.startswith("_") or not callable(method):
                continue
            full = f"{service.__name__}.{name}"
            if hasattr(method, "need"):
                needing.add(full)
            elif not name.startswith(READ_VERBS) and name not in OTHER_READS:
                unlisted.add(full)
    assert needing == set(GUARDED)
    assert not unlisted


@pytest.mark.parametrize("method", GUARDED)
def test_below_its_role_a_method_is_refused_and_changes_nothing(refusing, method):
    role, call = GUARDED[method]
    name = method.partition(".")[2]
    before = snapshot(refusing.store)
    for user in (NOBODY, VIEWER, RESEARCHER):
        if user.role is not None and user.role >= role:
            continue
        service = refusing.of(method, user)
        assert not service.may(getattr(service, name))
        with pytest.raises(NotAllowed, match=rf"^Only .*{role.label}s.* may ") as refused:
            call(service)
        assert ("log in first" in str(refused.value)) == (user is NOBODY)
    assert snapshot(refusing.store) == before


@pytest.mark.parametrize("method", GUARDED)
def test_from_its_role_on_a_method_does_its_work(services, method):
    role, call = GUARDED[method]
    user = next(user for user in (VIEWER, RESEARCHER, ADMIN) if user.role == role)
    service = services.of(method, user)
    assert service.may(getattr(service, method.partition(".")[2]))
    if method == "EngineService.start_server":
        with pytest.raises(EngineNotReachable):  # let through; this interpreter has no vLLM
            call(service)
        return
    call(service)


@pytest.mark.parametrize("method", WRITES)
def test_read_only_refuses_a_write_even_to_an_admin(refusing, tmp_path, method):
    before = snapshot(refusing.store)
    showing = Services(refusing.store, tmp_path, read_only=True)
    for user in (OWNER, ADMIN, API_TOKEN, DASHBOARD):
        service = showing.of(method, user)
        assert not service.may(getattr(service, method.partition(".")[2]))
        with pytest.raises(ReadOnly):
            WRITES[method][1](service)
    assert snapshot(refusing.store) == before


ACTIONS = {
    "BenchmarkService.start_benchmark": ("launched", "run", 3, "simulated-rater on six"),
    "RunService.start_benchmark": ("launched", "run", 3, "simulated-rater on six"),
    "RunService.cancel_benchmark": ("cancelled", "run", 1, "simulated-rater on six"),
    "RunService.annotate_run": ("tagged", "run", 1, "Tags: a"),
    "RunService.delete_run": ("deleted", "run", 2, "simulated-rater on six, 0 answers"),
    "DatasetService.import_personas": ("imported", "dataset", 3, "new"),
    "DatasetService.build_dataset": ("built", "dataset", 3, "pool"),
    "DatasetService.delete_dataset": ("deleted", "dataset", 2, "spare"),
    "DatasetService.import_traits": ("imported", "trait", None, "1 in a file: fair"),
    "DatasetService.add_trait": ("added", "trait", 5, "kind"),
    "DatasetService.edit_trait": ("edited", "trait", 5, "trait-0"),
    "DatasetService.set_trait_active": ("deactivated", "trait", 2, "trait-1"),
}
UNRECORDED = {
    "EngineService.start_server",  # recorded, too; see below
    "EngineService.stop_server",
    "RunAnalysis.start_warm_cache",
    "RunAnalysis.clear_cache",
    "DatasetService.load_sample_data",
}


def test_every_write_is_recorded_or_known_not_to_be():
    assert {*ACTIONS, *UNRECORDED} == set(WRITES)


@pytest.mark.parametrize("method", ACTIONS)
def test_an_action_is_recorded_with_who_what_and_when(services, method):
    with services.store.read() as session:
        before = audit.count_entries(session)
    WRITES[method][1](services.of(method, ADMIN))
    with services.store.read() as session:
        assert audit.count_entries(session) == before + 1
        (entry,) = audit.list_entries(session, limit=1, offset=0)
    assert entry.user_name == "ada@example.org"
    assert (entry.action, entry.kind, entry.object_id, entry.detail) == ACTIONS[method]
    assert entry.at.tzinfo is not None


def test_a_resume_is_recorded_and_a_run_tells_who_launched_it(services):
    service = services.of("BenchmarkService.start_benchmark", RESEARCHER)
    service.start_benchmark(StartBenchmark(resume_run_id=2))
    entry = service.acting_as(ADMIN).list_activity(limit=1)[0]
    assert (entry.user_name, entry.action, entry.object_id) == ("rosa@example.org", "resumed", 2)
    assert service.get_run(2)["launched_by"] == "owner"
    assert service.get_run(service.start_benchmark(START))["launched_by"] == "rosa@example.org"


def test_starting_and_stopping_the_local_server_is_recorded(services, monkeypatch):
    server = SimpleNamespace(model="org/model", report=dict, stop=lambda: None)
    monkeypatch.setattr(VllmServer, "start", lambda *_args, **_named: server)
    service = services.of("BenchmarkService.list_activity", ADMIN)
    service.engines.start_server("org/model")
    service.acting_as(ADMIN).engines.stop_server()  # the same server, whoever asks
    service.engines.stop_server()  # there is none any more: nothing is done, nothing recorded
    assert [
        (entry.user_name, entry.action, entry.kind, entry.object_id, entry.detail)
        for entry in service.list_activity(limit=2)
    ] == [
        ("ada@example.org", "stopped", "server", None, "org/model"),
        ("ada@example.org", "started", "server", None, "org/model"),
    ]
    assert service.count_activity() == 5


def test_an_action_that_fails_is_not_recorded(services):
    service = services.of("DatasetService.add_trait", ADMIN)
    activity = services.of("BenchmarkService.list_activity", ADMIN)
    before = activity.count_activity()
    with pytest.raises(InvalidInput, match="trait-0"):
        service.add_trait(TraitDraft("trait-0", {"en": "x"}, {}, "warmth", 1))
    assert activity.count_activity() == before


def test_the_record_is_paged_newest_first(services):
    service = services.of("BenchmarkService.list_activity", ADMIN)
    everything = service.list_activity()
    assert [entry.action for entry in everything] == ["cancelled", "launched", "launched"]
    assert service.count_activity() == 3
    assert service.list_activity(limit=1, offset=1) == everything[1:2]


def test_somebody_without_a_role_gets_no_service_at_all(services):
    for service in services.by_name.values():
        with pytest.raises(NotAllowed, match=r"mallory has no role .* ask one of its admins"):
            service.acting_as(User("mallory", None))


def test_acting_for_one_leaves_the_other_as_it_was(services):
    shared = services.by_name["BenchmarkService"]
    assert shared.acting_as(ADMIN).may(shared.runs.delete_run)
    assert not shared.acting_as(VIEWER).may(shared.runs.delete_run)
    assert not shared.may(shared.runs.delete_run)
    assert shared.acting_as(ADMIN).runs.may(shared.runs.delete_run)
    assert not shared.acting_as(VIEWER).runs.may(shared.runs.delete_run)
    assert isinstance(shared, ActingService)


def test_the_dashboard_records_runs_it_resumes_by_itself(services, tmp_path):
    from benchlib.infrastructure.execution.worker import Worker
    from tests.samples import claim, worker_context
    from tests.scripted_client import ScriptedClient

    assert claim(services.store, "gone") == 1
    worker = Worker(
        worker_context(services.store, ScriptedClient(), owner="gone"), auto_resume=True
    )
    worker.sweep()
    entry = services.of("BenchmarkService.list_activity", ADMIN).list_activity(limit=1)[0]
    assert (entry.user_name, entry.action, entry.object_id) == ("dashboard", "resumed", 1)
