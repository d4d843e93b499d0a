"""The form of a new run: what is asked, who answers, how; preflight, preview and launch."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from benchlib.application.analysis.power_plan import PowerPlan, PowerQuery
from benchlib.application.commands import StartBenchmark
from benchlib.application.engine_service import EngineChoice
from benchlib.application.preflight import PlannedRun
from benchlib.domain.errors import BenchlibError
from benchlib.domain.records import DatasetRecord, TraitRecord
from benchlib.domain.simulation.presets import PRESETS
from benchlib.domain.vocabulary import N_POINTS
from benchlib.presentation.text import counted
from pages.shared import engine_widgets, run_header, texts, words
from pages.shared.access import get_dataset_service, get_service

# What is typed survives a look at another page.
KEEP: Any = {"persist_state": "session"}

LARGEST_DELTA = N_POINTS - 1

service, datasets = get_service(), get_dataset_service()


def pick_materials(known: Sequence[DatasetRecord], active: Sequence[TraitRecord]) -> dict[str, Any]:
    """Dataset and traits."""
    st.subheader("What is asked")
    by_id = {dataset.id: dataset for dataset in known}
    whole = [dataset.id for dataset in known if dataset.kind != "counterfactual"]
    dataset_id = st.selectbox(
        "Dataset",
        list(by_id),
        index=list(by_id).index(whole[0]) if whole else 0,
        format_func=lambda key: f"{by_id[key].name} ({by_id[key].n_personas:,} personas)",
        key="start_dataset",
        help="The personas that are rated. Make or import others under Datasets.",
        **KEEP,
    )
    sizes = words.sizes(trait.category for trait in active)
    categories = st.multiselect(
        "Trait categories",
        list(sizes),
        default=list(sizes),
        format_func=lambda name: f"{name} ({sizes[name]})",
        wrap=True,
        key="start_categories",
        help="Every persona is rated on every trait of these categories.",
        **KEEP,
    )
    candidates = {trait.id: trait for trait in active if trait.category in categories}
    left_out = st.multiselect(
        "Leave out single traits",
        list(candidates),
        format_func=lambda key: candidates[key].case_id,
        key="start_left_out",
        placeholder="None",
        help="Traits of the categories above that are not asked in this run.",
        **KEEP,
    )
    asked = [key for key in candidates if key not in left_out]
    st.caption(f"{len(asked)} of {counted(len(active), 'active trait')} chosen")
    if not asked:
        st.error("Choose at least one trait.", icon=":material/error:")
    return {"dataset_id": dataset_id, "trait_ids": asked}


def pick_engine(choice: EngineChoice) -> tuple[dict[str, Any], str | None]:
    """Who answers; the second value says why the choice cannot run yet."""
    st.subheader("Who answers")
    engine = st.segmented_control(
        "Engine",
        list(words.ENGINES),
        format_func=words.ENGINES.__getitem__,
        default=choice["llm"],
        required=True,
        wrap=True,
        key="start_engine",
        help="A server that is already running, one that this dashboard starts, or made-up "
        "answers.",
        **KEEP,
    )
    if engine == "simulated":
        return pick_simulated(), None
    if engine == "managed":
        return pick_managed()
    return pick_server(choice), None


def pick_simulated() -> dict[str, Any]:
    """Truth, speed and faults of the simulated rater."""
    run_header.simulated_badge()
    preset = st.selectbox(
        "Rater",
        list(PRESETS),
        format_func=lambda name: PRESETS[name].label,
        key="start_preset",
        help="What is planted in its answers, and so what an analysis should find.",
        **KEEP,
    )
    speed = st.number_input(
        "Answers per second",
        min_value=0.1,
        max_value=1e6,
        value=None,
        key="start_speed",
        placeholder="As fast as possible",
        help="To see how a slower engine feels. Empty: as fast as possible.",
        **KEEP,
    )
    faults = st.slider(
        "Share of attempts that fail",
        *StartBenchmark.limits("simulated_fault_rate"),
        0.01,
        format="percent",
        key="start_faults",
        help="Attempts without a usable answer, to see how failures are handled.",
        **KEEP,
    )
    return {
        "llm": "simulated",
        "simulated_items_per_second": speed,
        "simulated_fault_rate": faults,
        "simulated_preset": preset,
    }


def pick_managed() -> tuple[dict[str, Any], str | None]:
    """The server of this dashboard; it must be ready before a run."""
    engine_widgets.managed_server(service)
    state = service.engines.server_state()
    if state is None or state["state"] not in ("starting", "ready"):
        named = st.session_state["server_model"].strip()
        return {"llm": "vllm", "model_name": named or "-"}, "Start the local server first."
    fields = {
        "llm": "vllm",
        "vllm_base_url": state["base_url"],
        "model_name": state["model_name"],
    }
    return fields, None if state["state"] == "ready" else "The local server is still loading."


def pick_server(choice: EngineChoice) -> dict[str, Any]:
    """Address, key and model of a running server."""
    address, key = engine_widgets.address_and_key("start")
    if service.may(service.engines.test_connection) and st.button(
        "Test connection", key="start_test", icon=":material/wifi_tethering:"
    ):
        with st.spinner("Asking the server…"):
            st.session_state["start_found"] = service.engines.test_connection(address, key)
        served = engine_widgets.served_models(st.session_state["start_found"])
        if served and st.session_state.get("start_model") not in served:
            st.session_state["start_model"] = served[0]
    if "start_found" in st.session_state:
        engine_widgets.connections(st.session_state["start_found"])
    models = engine_widgets.served_models(st.session_state.get("start_found", []))
    if choice["llm"] == "vllm" and choice["model_name"] not in models:
        models = [choice["model_name"], *models]
    model: str | None = st.selectbox(
        "Model",
        models,
        index=0 if models else None,
        key="start_model",
        accept_new_options=True,
        placeholder="Test the connection, or type the name",
        help="As the server names it. Testing the connection lists what it serves.",
        **KEEP,
    )
    if not model:
        st.error("Name the model, or test the connection to see a list.", icon=":material/error:")
    return {
        "llm": "vllm",
        "vllm_base_url": address or choice["base_url"],
        "vllm_api_key": key,
        "model_name": model or "",
    }


def pick_manner() -> dict[str, Any]:
    """How it is asked."""
    st.subheader("How it is asked")
    left, right = st.columns(2)
    mode = left.selectbox(
        "Answer mode",
        list(words.ANSWER_MODES),
        format_func=words.ANSWER_MODES.__getitem__,
        key="start_mode",
        help="Probability of each digit is fastest and most precise: one token, five "
        "log-probabilities. If the server cannot do what you choose, the next best mode is used, "
        "and the run says so.",
        **KEEP,
    )
    language = right.selectbox(
        "Language",
        list(words.LANGUAGES),
        format_func=words.LANGUAGES.__getitem__,
        key="start_language",
        help="Of the whole prompt: persona, question and scale.",
        **KEEP,
    )
    scale = left.selectbox(
        "Scale order",
        list(words.SCALE_MODES),
        format_func=words.SCALE_MODES.__getitem__,
        key="start_scale",
        help="Models prefer some digits or positions. “Half of the pairs each way” separates that "
        "from what they think of people.",
        **KEEP,
    )
    dual = right.slider(
        "Asked in both orders",
        *StartBenchmark.limits("dual_fraction"),
        0.05,
        format="percent",
        key="start_dual",
        help="Share of the persona-trait pairs asked twice, once in each scale order, to measure "
        "order effects.",
        **KEEP,
    )
    with st.expander("More options", icon=":material/tune:"):
        more = pick_more()
    return {
        "answer_mode": mode,
        "language": language,
        "scale_mode": scale,
        "dual_fraction": dual,
        **more,
    }


def pick_more() -> dict[str, Any]:
    """What most runs leave at its default."""
    system = st.text_area(
        "System prompt",
        key="start_system",
        placeholder="The built-in one",
        help="Replaces the built-in system prompt, which the preview shows.",
        **KEEP,
    )
    left, right = st.columns(2)
    return {
        "system_prompt": system or None,
        "temperature": left.number_input(
            "Temperature",
            *StartBenchmark.limits("temperature"),
            0.1,
            key="start_temperature",
            help="0 takes the most likely answer and is repeatable.",
            **KEEP,
        ),
        "seed": right.number_input(
            "Seed",
            *StartBenchmark.limits("seed"),
            key="start_seed",
            help="Decides scale orders and which pairs are asked twice. Same seed, same plan.",
            **KEEP,
        ),
        "max_attempts": left.number_input(
            "Attempts per question",
            *StartBenchmark.limits("max_attempts"),
            key="start_attempts",
            help="After an unusable answer a stricter prompt is sent, up to this many attempts "
            "in all.",
            **KEEP,
        ),
        "batch_size": right.number_input(
            "Requests in flight at most",
            *StartBenchmark.limits("batch_size"),
            key="start_in_flight",
            help="At each address. The actual number adapts to the engine, up to this limit; a low "
            "limit is kinder to a shared server.",
            **KEEP,
        ),
        "max_new_tokens": left.number_input(
            "Longest answer in tokens",
            *StartBenchmark.limits("max_new_tokens"),
            key="start_tokens",
            help="For answers as JSON or text. Probability of each digit needs one token.",
            **KEEP,
        ),
    }


def show_preflight(command: StartBenchmark, planned: PlannedRun, obstacle: str | None) -> None:
    """Size and time of the run, and the button that starts it."""
    numbers = {
        "Prompts": (
            f"{planned.n_prompts:,}",
            "Persona-trait pairs; pairs asked in both orders count twice.",
        ),
        "Estimated time": (
            words.duration(planned.seconds),
            "From the last finished run of this engine, model and answer mode.",
        ),
    }
    if planned.prompt_tokens is not None:
        numbers["Prompt tokens"] = (
            words.about(planned.prompt_tokens),
            "Estimated from the length of the prompts; tokenizers differ. A server with a prefix "
            "cache, such as vLLM, processes far fewer: it reads what the prompts of a persona "
            "share only once.",
        )
    texts.numbers(numbers)
    if planned.seconds is None:
        st.caption("The time is unknown until the first answers come in.")
    if obstacle:
        st.info(obstacle, icon=":material/info:")
    may_launch = service.may(service.start_benchmark)
    if not may_launch and not service.read_only:
        st.info("Launching runs requires the role researcher.", icon=":material/lock:")
    if st.button(
        "Launch",
        key="start_launch",
        type="primary",
        icon=":material/rocket_launch:",
        disabled=not may_launch or obstacle is not None,
        width="stretch",
    ):
        run_id = service.start_benchmark(command)
        st.switch_page("progress.py", query_params={"run": str(run_id)})


def show_detectable(command: StartBenchmark) -> None:
    """The smallest difference that the run can detect, per attribute."""
    details = st.expander(
        "What this run can find",
        icon=":material/search:",
        key="start_detectable",
        on_change="rerun",
    )
    if not details.open:
        return
    asked = [trait for trait in active if trait.id in (command.trait_ids or ()) and trait.valence]
    plan = service.analysis.get_power_plan(
        PowerQuery(
            dataset_id=command.dataset_id or 0,
            n_traits=max(1, len(asked)),
            n_trait_categories=max(1, len({trait.category for trait in asked})),
            dual_fraction=command.dual_fraction,
        )
    )
    numbers = {
        "mde": "One test, largest group",
        "mde_worst": "One test, smallest group",
        "mde_corrected": "Corrected, largest group",
        "mde_corrected_worst": "Corrected, smallest group",
        "half_width": "± largest group",
        "half_width_worst": "± smallest group",
    }
    table = pd.DataFrame(plan["attributes"], columns=["attribute", "baseline", *numbers])
    found = table[list(numbers)].astype(float)
    table[list(numbers)] = found.where(found <= LARGEST_DELTA)
    with details:
        st.dataframe(
            table,
            key="start_detectable_table",
            hide_index=True,
            placeholder="–",
            column_config={
                "attribute": "Attribute",
                "baseline": "Baseline",
                **{
                    name: st.column_config.NumberColumn(label, format="%.2f")
                    for name, label in numbers.items()
                },
            },
            alt="Smallest detectable difference and half-width of the interval per attribute",
        )
        st.caption(
            "Smallest true difference from the baseline, in rating points, that Welch's test at "
            f"level {plan['alpha']:g} detects with a probability of {plan['power']:.0%}: in a "
            f"single test, and after the correction over the {plan['n_tests']:,} deltas of this "
            "run if only one is real. ± is the expected half-width of the 95% interval. “–”: fewer "
            "than two personas, or more than the scale allows."
        )
        st.caption(describe_precision(plan))


def describe_precision(plan: PowerPlan) -> str:
    """How many personas a precise interval takes, and what is assumed."""
    rows = [row for item in plan["attributes"] for row in item["categories"]]
    needed = rows[0]["n_per_group_half_width"] if rows else None
    sentence = (
        "Assumed standard deviations: "
        f"personas {plan['sd_persona']:.2f}, single answers {plan['sd_residual']:.2f}."
    )
    if needed is None:
        return sentence
    goal = f"An interval of ±{plan['target_half_width']:g} takes {needed:,} personas per group."
    return f"{goal} {sentence}"


def show_preview(planned: PlannedRun) -> None:
    """The prompt as it is sent, in both scale orders."""
    st.subheader("Prompt preview")
    st.caption("The first persona and trait of this run, exactly as sent.")
    original, reversed_order = st.tabs(list(words.SCALE_ORDERS.values()), key="start_preview")
    with original:
        texts.show_question(planned.prompts["in"])
    with reversed_order:
        texts.show_question(planned.prompts["rev"])


st.title("Start run")
if "start_choice" not in st.session_state:
    with st.spinner("Looking for a model server…"):
        st.session_state["start_choice"] = service.engines.default_engine()
choice = st.session_state["start_choice"]
known = datasets.list_datasets()
active = [trait for trait in datasets.list_traits() if trait.active]
if not known or not active:
    st.info("A run needs a dataset and at least one active trait.", icon=":material/info:")
    st.page_link("datasets.py", label="Datasets", icon=":material/groups:")
    st.page_link("traits.py", label="Traits", icon=":material/label:")
    st.stop()
form, ready = st.columns([3, 2], gap="large")
with form:
    materials = pick_materials(known, active)
    engine, obstacle = pick_engine(choice)
    manner = pick_manner()
with ready:
    st.subheader("Ready to launch")
    if st.session_state["start_engine"] == choice["llm"]:
        st.text(choice["note"])
    complete = materials["trait_ids"] and engine.get("model_name", "simulated-rater")
    if not complete:
        st.info("Complete the form to launch.", icon=":material/edit:")
        st.stop()
    try:
        command = StartBenchmark.of(**materials, **engine, **manner)
        planned = service.runs.preview_run(command)
        show_preflight(command, planned, obstacle)
        show_detectable(command)
        show_preview(planned)
    except BenchlibError as error:
        texts.show_error(words.with_labels(str(error)))
