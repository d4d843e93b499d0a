"""A rated run with a bias, and every panel that can be asked of it."""

import numpy as np

from benchlib.application.analysis import answer_panels, detail_panels, group_panels
from benchlib.domain.analysis.cells import compute_cells
from benchlib.infrastructure.loading import data_loader
from tests.samples import get_run

GROUPS = {"gender": ("f", "m", "f"), "origin": ("n", "s", "e", "n", "Unknown")}


def biased(i, t, order):
    """Women (2 of 3) get more on favourable traits; noise depends on the item alone."""
    good = 3 + (i % 3 != 1) * (t % 2) + ((7 * i + 3 * t) % 5 == 0) - ((5 * i + t) % 4 == 0)
    favourable = good if t < 2 else 6 - good
    favourable = min(5, max(1, favourable))
    return favourable if order == "in" else 6 - favourable


def panels(service, run_id, attribute="gender"):
    """Every panel that is asked for without a choice."""
    return {
        "metrics": lambda: service.get_metrics(run_id),
        "order": lambda: service.get_order_metrics(run_id),
        "means": lambda: service.get_means(run_id, attribute),
        "all means": lambda: service.analysis.get_panel(answer_panels.all_means, run_id),
        "deltas": lambda: service.get_deltas(run_id, attribute),
        "all deltas": lambda: service.analysis.get_panel(group_panels.all_deltas, run_id),
        "neutral deltas": lambda: service.get_deltas(run_id, attribute, neutral=True),
        "deltas of a category": lambda: service.get_deltas(
            run_id, attribute, trait_category="warmth"
        ),
        "forest": lambda: service.get_forest(
            run_id, attribute, methods=("dl", "pm", "reml"), max_t=True, n_perm=50
        ),
        "all forests": lambda: service.analysis.get_panel(group_panels.all_forests, run_id),
        "omnibus": lambda: service.analysis.get_panel(group_panels.omnibus, run_id),
        "by category": lambda: service.analysis.get_panel(group_panels.omnibus_by_category, run_id),
        "styles": lambda: service.analysis.get_panel(detail_panels.styles, run_id),
        "distributions": lambda: service.analysis.get_panel(detail_panels.distributions, run_id),
        "counterfactual": lambda: service.analysis.get_panel(detail_panels.counterfactuals, run_id),
        "adjusted": lambda: service.analysis.get_panel(detail_panels.adjusted_deltas, run_id),
        "components": lambda: service.analysis.get_panel(detail_panels.variance_components, run_id),
        "components within": lambda: service.analysis.get_panel(
            detail_panels.variance_components, run_id, attribute=attribute
        ),
        "health": lambda: service.analysis.get_panel(answer_panels.data_quality, run_id),
    }


def numbers_in(value):
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from numbers_in(part)
    elif isinstance(value, float):
        yield value


def rounded(value):
    """A panel without the last digits, which depend on the order of addition."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.11g}") if isinstance(value, float) else value


def rating_shares(i, t, order):
    """A distribution around the digit that was answered."""
    weights = [1.0 + (i + t) % 3] * 5
    weights[biased(i, t, order) - 1] += 4.0
    return [weight / sum(weights) for weight in weights]


def cells_of(service, run_id, **named):
    frame = data_loader.load_run_df(service._store, get_run(service._store, run_id))
    names = [name for name in ("gender", "origin") if name in frame]
    return compute_cells(frame, names, **named)


def draws(run, panel=""):
    from zlib import crc32

    seed = [run.config.seed, run.id, crc32(panel.encode())]
    return np.random.Generator(np.random.SFC64(seed))
