"""Mean of one sample with its t interval: a group's level, a mean paired difference."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchlib.domain.stats.welch import (
    CONFIDENCE,
    LOW_N,
    ZERO_VARIANCE,
    Status,
    moments_of,
    none_if_nan,
    t_quantile,
    t_two_sided,
)


@dataclass(frozen=True, slots=True)
class OneSample:
    """Mean of independent numbers, one per persona or pair; None = undefined.

    Attributes:
        n: Numbers that are not missing.
        mean: None if n = 0.
        sd: Standard deviation (ddof 1); None below two.
        se: sd / sqrt(n).
        df: n - 1; None without a test.
        t: mean / se; None without a test.
        p_value: Two-sided against a mean of 0; None below two numbers or if all are equal.
        ci_low: Lower end of the 95 % t interval; None like the p-value.
        ci_high: Upper end.
        status: What the numbers can be trusted for.
    """

    n: int
    mean: float | None
    sd: float | None
    se: float | None
    df: int | None
    t: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None
    status: Status


def compute_one_sample(values: ArrayLike) -> OneSample:
    """Student's one-sample t, as `scipy.stats.ttest_1samp`.

    Args:
        values: Any shape; NaN values are left out.
    """
    moments = moments_of(values)
    n = int(moments.n)
    mean = none_if_nan(moments.mean)
    if n < 2 or mean is None:
        return OneSample(
            n, mean, None, None, None, None, None, None, None, "n_lt_2" if n else "no_data"
        )
    sd = float(moments.sd)
    if sd == 0:
        return OneSample(n, mean, 0.0, 0.0, None, None, None, None, None, "zero_variance")
    se = sd / float(np.sqrt(n))
    reach = float(t_quantile(n - 1, CONFIDENCE)) * se
    return OneSample(
        n=n,
        mean=mean,
        sd=sd,
        se=se,
        df=n - 1,
        t=mean / se,
        p_value=float(t_two_sided(mean / se, n - 1)),
        ci_low=mean - reach,
        ci_high=mean + reach,
        status="ok" if n >= LOW_N else "low_n",
    )


class PairedTest(NamedTuple):
    """Tests of a mean paired difference; None = no test.

    Attributes:
        p_value: Two-sided against 0.
        p_tost: Of equivalence: the larger one-sided p against -margin and +margin.
    """

    p_value: float | None
    p_tost: float | None


def compute_paired_test(sample: OneSample, margin: float) -> PairedTest:
    """Test a mean difference against 0, and against a margin that matters.

    Student's t; where all differences are equal, as with raters without noise, the exact
    sign-flip test: n equal differences d have p = 2^(1 - n), or 1 for d = 0, and are equivalent
    at p = 2^-n if d lies within the margin.

    Args:
        sample: The differences, one per persona.
        margin: Smallest effect of interest, > 0.

    Returns:
        None for both below two differences.
    """
    mean, n = sample.mean, sample.n
    if mean is None or sample.se is None:
        return PairedTest(None, None)
    if sample.se == 0:
        none = abs(mean) <= ZERO_VARIANCE**0.5
        return PairedTest(1.0 if none else 2.0 ** (1 - n), 2.0**-n if abs(mean) < margin else 1.0)
    p_tost = float(scipy.special.stdtr(n - 1, (abs(mean) - margin) / sample.se))
    return PairedTest(sample.p_value, p_tost)
