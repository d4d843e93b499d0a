"""Order effects: whether the scale order changes answers; response styles; distributions."""

import streamlit as st

from benchlib.application.analysis import detail_panels
from benchlib.application.payloads import RunDetail
from benchlib.domain.stats.agreement import ChiSquareTest
from benchlib.presentation.figures.distributions import distribution_figure, distributions_by_figure
from benchlib.presentation.figures.order_effects import (
    agreement_figure,
    agreement_table_figure,
    digits_figure,
    shift_by_category_figure,
    shift_by_trait_figure,
)
from benchlib.presentation.numbers import number, relation
from benchlib.presentation.rows import order_rows
from pages.shared import analysis_pickers, downloads, links, run_header, texts, words
from pages.shared.columns import count_column, number_column, p_value_column, show_table

TABS = ("Agreement", "By trait", "Response styles", "Distributions")
STYLES = {
    "acquiescence": "Acquiescence (points)",
    "extreme": "Share of 1 and 5",
    "midpoint": "Share of 3",
    "missing": "Share without a rating",
}


def show_agreement(run: RunDetail) -> None:
    """The whole run: rates, agreement beyond chance, digits."""
    order = service.get_order_metrics(run["id"])
    provenance = run_header.panel_facts(order, run)
    if not order["n_pairs"]:
        st.info(
            "No question was asked in both scale orders, so consistency cannot be measured. Set "
            "“Asked in both orders” above 0 for the next run.",
            icon=":material/info:",
        )
    bias, rates, retest = order["obe"], order["rma"], order["test_retest"]
    texts.numbers(
        {
            "Pairs": (f"{order['n_pairs']:,}", "Questions asked in both scale orders."),
            "Same answer": (
                words.percent(rates["exact_rate"]),
                "Share of pairs with the same rating.",
            ),
            "Within one": (
                words.percent(retest["within1_rate"]),
                "Share of pairs at most one point apart.",
            ),
            "Mean distance": (points(rates["mae"]), "In scale points."),
            "Position shift": (
                points(bias["position_shift"]),
                "Pull towards digits whatever they mean; above 0: towards high digits. "
                + reach(bias["position_shift_ci_low"], bias["position_shift_ci_high"]),
            ),
        }
    )
    left, right = st.columns(2, gap="large")
    with left:
        downloads.show_figure(
            downloads.draw(agreement_figure, provenance, order["agreement"]),
            "agreement",
            "Agreement",
            provenance,
            order_rows(order),
        )
        show_table(
            order_rows(order),
            "order_numbers",
            {
                "measure": "Both scale orders",
                "value": number_column("Value"),
                "ci_low": number_column("95% low"),
                "ci_high": number_column("95% high"),
            },
            "Numbers on both scale orders",
        )
        for name, test in (
            ("Bowker: disagreements go either way equally often", order["agreement"]["bowker"]),
            (
                "Stuart–Maxwell: both orders use the points equally often",
                order["agreement"]["stuart_maxwell"],
            ),
        ):
            st.caption(f"{name}; {chi_square(test)}")
    with right:
        downloads.show_figure(
            downloads.draw(digits_figure, provenance, order["digits"]),
            "digits",
            "Digits",
            provenance,
        )
        downloads.show_figure(
            downloads.draw(agreement_table_figure, provenance, order["table"]),
            "pairs",
            "Pairs",
            provenance,
        )
    texts.explain(
        "A consistent rater means the same in both orders: the digits in the original and in the "
        "reversed order sum to 6. Kappa, ICC and alpha compare agreement with chance (0) and "
        "perfection (1); correlations cannot see a constant shift. Intervals are a jackknife over "
        "personas, or clustered by persona, because a persona has several pairs. The **mean "
        "difference** is the rating in the original order minus the recoded rating in the reversed "
        "order: order bias, twice the position shift. The chi-square tests treat pairs as "
        "independent and are only descriptive."
    )


def show_by_trait(run: RunDetail) -> None:
    """Where the order matters."""
    category = analysis_pickers.pick_trait_category(run)
    order = service.get_order_metrics(run["id"], trait_category=category)
    provenance = run_header.panel_facts(order, run)
    downloads.show_figure(
        downloads.draw(shift_by_category_figure, provenance, order["by_trait_category"]),
        "shift_category",
        "Order difference by trait category",
        provenance,
        order["by_trait_category"],
    )
    downloads.show_figure(
        downloads.draw(shift_by_trait_figure, provenance, order["by_case"]),
        "shift_trait",
        "Order difference by trait",
        provenance,
        order["by_case"],
    )
    show_table(
        order["by_case"],
        "order_table",
        {
            "label": "Trait",
            "trait_category": "Trait category",
            "n": count_column("Pairs"),
            "mean_in": number_column("Mean digit, original", 2),
            "mean_rev": number_column("Mean digit, reversed", 2),
            "mean_diff": number_column("Difference"),
            "ci_low": number_column("95% low"),
            "ci_high": number_column("95% high"),
            "abs_diff": number_column("Mean distance"),
            "rma": st.column_config.NumberColumn("Same answer", format="percent"),
        },
        "Order effects by trait",
    )
    texts.explain(
        "Per question asked in both orders: the rating in the original order minus the recoded "
        "rating in the reversed order, so that 0 = no order effect. **Mean distance** is the "
        "mean of its absolute value. A trait has one pair per persona, so its interval is "
        "Student's t; a trait category has several, so its interval is clustered by persona."
    )


def show_styles(run: RunDetail) -> None:
    """How the model answers whatever is asked, and whether groups differ in that."""
    styles = service.analysis.get_panel(detail_panels.styles, run["id"])
    provenance = run_header.panel_facts(styles, run)
    levels = [*styles["levels"], *styles["missing_rates"]["levels"]]
    show_table(
        [{**level, "style": STYLES[level["style"]]} for level in levels],
        "style_levels",
        {
            "style": "Style",
            "n_personas": count_column("Personas"),
            "level": number_column("Level"),
            "ci_low": number_column("95% low"),
            "ci_high": number_column("95% high"),
            "status": "Note",
        },
        "Levels of response styles",
    )
    attribute = analysis_pickers.pick_attribute(run)
    rows = [
        {**row, "style": STYLES[row["style"]]}
        for source in (styles, styles["missing_rates"])
        for row in source["attributes"][attribute]["rows"]
    ]
    show_table(
        rows,
        "style_groups",
        {
            "style": "Style",
            "category": "Category",
            "n_personas": count_column("Personas"),
            "level": number_column("Level"),
            "delta": number_column("Delta", 3, "Category minus baseline."),
            "ci_low": number_column("95% low"),
            "ci_high": number_column("95% high"),
            "p_value": p_value_column("p"),
            "q_value": p_value_column("q"),
            "status": "Note",
        },
        "Response styles by group",
    )
    downloads.downloads("styles", provenance, rows=rows, title="Response styles by group")
    texts.explain(
        "**Acquiescence** is the pull towards “very” whatever is asked: the mean of favourable and "
        "unfavourable traits minus 3; it needs traits of both valences. Its level depends on the "
        "list of traits, differences between groups do not. **Extreme** and **midpoint** are "
        "shares of the digits 1 and 5, and 3. One number per persona, Welch's t between groups, "
        "q over styles × attributes × categories."
    )


def show_distributions(run: RunDetail) -> None:
    """The probabilities behind the digits, and the precision gained by them."""
    found = service.analysis.get_panel(detail_panels.distributions, run["id"])
    if not found["available"]:
        st.info(
            "The answers of this run came without probabilities. Choose the answer mode "
            "“Probability of each digit” for the next run.",
            icon=":material/info:",
        )
        return
    provenance = run_header.panel_facts(found, run)
    whole, gain = found["overall"], found["precision"]
    ratio = gain["variance_ratio"]
    texts.numbers(
        {
            "Expected rating": (points(whole["expected"]), "Mean over the answers."),
            "Entropy": (
                words.percent(whole["entropy_norm"]),
                "0% = certain of one digit, 100% = indifferent between all five.",
            ),
            "Valid mass": (
                words.percent(whole["mass"]),
                "Probability of answering with a digit at all.",
            ),
            "Low mass": (
                words.percent(whole["low_mass_share"]),
                "Answers with less than 90% on digits.",
            ),
            "Gain in precision": (
                "–" if ratio is None else f"× {ratio:.2f}",
                "With single digits, intervals as short would need this many times as many "
                "personas.",
            ),
        }
    )
    if ratio is not None:
        st.text(
            f"Expected ratings are worth {ratio:.2f} times as many personas: the standard "
            f"deviation of persona scores is {points(gain['sd_expected'])} scale points with "
            f"them, {points(gain['sd_digits'])} with digits."
        )
    left, right = st.columns(2, gap="large")
    with left:
        downloads.show_figure(
            downloads.draw(distribution_figure, provenance, whole),
            "distribution",
            "Mean probabilities",
            provenance,
            [whole],
        )
    with right:
        downloads.show_figure(
            downloads.draw(
                distributions_by_figure, provenance, found["by_trait_category"], "trait_category"
            ),
            "distribution_category",
            "Mean probabilities by trait category",
            provenance,
            found["by_trait_category"],
        )
    show_table(
        found["by_trait"],
        "distribution_table",
        {
            "label": "Trait",
            "trait_category": "Trait category",
            "n": count_column("Answers"),
            "expected": number_column("Expected", 2),
            "entropy_norm": st.column_config.NumberColumn("Entropy", format="percent"),
            "mass": st.column_config.NumberColumn("Valid mass", format="percent"),
            "low_mass_share": st.column_config.NumberColumn("Low mass", format="percent"),
        },
        "Distributions by trait",
    )
    texts.explain(
        "The engine gave the probability of each digit. The **expected rating** is their mean, "
        "which is free of the noise of drawing a digit; deltas and forests use it unless "
        "switched off. The **gain** is the variance of persona scores from digits divided by "
        "that from expected ratings. Little **valid mass** means that the model wanted to say "
        "something else."
    )


def points(value: float | None) -> str:
    """Scale points; a dash where they are undefined."""
    return number(value)


def chi_square(test: ChiSquareTest) -> str:
    """A chi-square test in words."""
    if test["chi2"] is None or test["p_value"] is None:
        return "nothing to test."
    p_value = f"p {relation(test['p_value'])}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"χ²({test['df']}) = {test['chi2']:,.1f}, {p_value}."


def reach(low: float | None, high: float | None) -> str:
    """An interval in words."""
    return "" if low is None or high is None else f"95% interval {number(low)} to {number(high)}."


service, run = run_header.open_run("Order effects")
st.caption("A check of the whole run: what depends on the scale order is not about people.")
SHOW = (show_agreement, show_by_trait, show_styles, show_distributions)
for tab, show in zip(st.tabs(TABS, key="tab", bind="query-params"), SHOW, strict=True):
    with tab:
        if tab.open:
            show(run)
links.result_links(run["id"], "order_effects.py")
