# Reference values from R for tests/domain/stats/test_reference.py.
#
#   apt-get install r-base-core r-cran-metafor r-cran-lme4 r-cran-pbkrtest r-cran-sandwich \
#     r-cran-coin r-cran-psych r-cran-effectsize r-cran-jsonlite
#   Rscript tests/domain/golden/reference.R tests/domain/golden/reference.json
#
# All data are made here, by rules that need no random numbers, and written beside the results.

suppressPackageStartupMessages({
  library(metafor)
  library(lme4)
  library(pbkrtest)
  library(sandwich)
  library(coin)
  library(psych)
  library(effectsize)
  library(jsonlite)
})

target <- commandArgs(trailingOnly = TRUE)[1]
wave <- function(n, step, scale) round(scale * sin(step * seq_len(n)) , 3)

# metafor: effects as independent -------------------------------------------------------------
effects <- c(0.31, -0.12, 0.55, 0.08, 0.74, 0.02, 0.41, -0.25)
variances <- c(0.021, 0.034, 0.018, 0.052, 0.040, 0.015, 0.061, 0.027)
meta <- lapply(c(DL = "DL", PM = "PM", REML = "REML"), function(method) {
  control <- list(threshold = 1e-13, tol = 1e-13, maxiter = 10000)
  normal <- rma(effects, variances, method = method, control = control)
  knha <- rma(effects, variances, method = method, test = "knha", control = control)
  list(
    tau2 = normal$tau2, mean = as.numeric(normal$beta), se = normal$se,
    ci_low = normal$ci.lb, ci_high = normal$ci.ub, q = normal$QE, q_p = normal$QEp,
    i2 = normal$I2 / 100, se_hksj = knha$se, ci_low_hksj = knha$ci.lb, ci_high_hksj = knha$ci.ub
  )
})

# sandwich: Welch's squared standard error is HC2 of the regression on the group ---------------
base <- c(2.1, 3.4, 2.8, 3.9, 2.2, 3.1, 2.7)
cat <- c(3.3, 4.8, 4.1, 2.9, 4.6)
scores <- c(base, cat)
group <- rep(c(0, 1), c(length(base), length(cat)))
fit <- lm(scores ~ group)
welch <- t.test(cat, base)
regression <- list(
  base = base, cat = cat,
  se_hc2 = sqrt(vcovHC(fit, type = "HC2")[2, 2]),
  se_hc3 = sqrt(vcovHC(fit, type = "HC3")[2, 2]),
  welch_t = as.numeric(welch$statistic), welch_df = as.numeric(welch$parameter),
  welch_p = welch$p.value, welch_low = welch$conf.int[1], welch_high = welch$conf.int[2]
)

# coin: exact permutation of the mean difference within two groups ------------------------------
exact_p <- function(first, second) {
  data <- data.frame(
    y = c(first, second), g = factor(rep(c("a", "b"), c(length(first), length(second))))
  )
  as.numeric(pvalue(oneway_test(y ~ g, data, distribution = "exact")))
}
cases <- list(
  digits = list(base = c(4, 4, 3, 5, 4, 4, 2, 4, 3, 4, 4, 4), cat = c(2, 4, 3, 3, 1)),
  nearly_constant = list(base = c(rep(4, 100), rep(3, 15), rep(2, 5)), cat = c(4, 3, 3, 2, 4, 3)),
  halves = list(base = c(3, 3.5, 4, 4, 2.5, 3), cat = c(4, 4.5, 5, 3.5)),
  decimals = list(base = c(3.12, 3.61, 2.95, 4.05, 3.33, 3.80), cat = c(4.21, 3.97, 4.66, 3.52)),
  large = list(
    base = rep(1:5, c(10, 20, 60, 80, 30)), cat = rep(1:5, c(5, 6, 9, 7, 1))
  ),
  hundreds = list(
    base = rep(1:5, c(10, 20, 60, 80, 30)), cat = rep(1:5, c(15, 26, 49, 27, 3))
  )
)
permutation <- lapply(cases, function(case) c(case, p_value = exact_p(case$base, case$cat)))

# effectsize: Hedges' g with its noncentral t interval ------------------------------------------
g <- hedges_g(cat, base, pooled_sd = TRUE)
wide <- hedges_g(cat + 4, base, pooled_sd = TRUE)
df <- length(scores) - 2
exact_factor <- exp(lgamma(df / 2) - log(sqrt(df / 2)) - lgamma((df - 1) / 2))
hedges <- list(
  exact_factor = exact_factor,
  g = g$Hedges_g, ci_low = g$CI_low, ci_high = g$CI_high,
  wide_g = wide$Hedges_g, wide_low = wide$CI_low, wide_high = wide$CI_high
)

# psych: intraclass correlations of the two scale orders ----------------------------------------
first <- c(1, 2, 3, 4, 5, 4, 3, 2, 4, 5, 3, 3)
second <- c(2, 2, 3, 5, 5, 3, 3, 3, 4, 4, 2, 4)
icc <- ICC(cbind(first, second), lmer = FALSE)$results
agreement <- list(
  first = first, second = second,
  icc_a1 = icc["Single_random_raters", "ICC"], icc_c1 = icc["Single_fixed_raters", "ICC"],
  kappa_quadratic = cohen.kappa(cbind(first, second))$weighted.kappa
)

# lme4 and pbkrtest: group slopes that vary over traits, Kenward-Roger --------------------------
mixed <- lapply(c(few = 4, more = 8), function(n_traits) {
  n <- c(9, 9)
  persona <- seq_len(sum(n))
  g <- rep(c(-0.5, 0.5), n)
  slope <- wave(n_traits, 2.3, 0.6) + 0.35
  level <- wave(n_traits, 1.1, 0.5)
  noise <- matrix(wave(sum(n) * n_traits, 7.7, 0.75) + wave(sum(n) * n_traits, 3.9, 0.6), sum(n))
  table <- 3 + wave(sum(n), 5.3, 0.4) + outer(g, slope) + matrix(level, sum(n), n_traits, TRUE)
  table <- round(table + noise, 3)
  long <- data.frame(
    y = as.vector(table), g = rep(g, n_traits), persona = factor(rep(persona, n_traits)),
    trait = factor(rep(seq_len(n_traits), each = sum(n)))
  )
  control <- lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-10))
  # g is +-1/2 and balanced, so slopes and intercepts of a trait may be taken as independent
  model <- lmer(y ~ g + (1 | persona) + (1 | trait) + (0 + g | trait), long, control = control)
  test <- KRmodcomp(model, update(model, . ~ . - g))$test["Ftest", ]
  list(
    ratings = table, n_base = n[1], mean = as.numeric(fixef(model)["g"]),
    se = sqrt(as.matrix(vcovAdj(model))[2, 2]), se_model = sqrt(vcov(model)[2, 2]),
    df = test$ddf, p_value = test$p.value, tau2 = as.numeric(VarCorr(model)$trait.1[1, 1])
  )
})

packages <- c("metafor", "lme4", "pbkrtest", "sandwich", "coin", "psych", "effectsize")
versions <- as.list(sapply(packages, function(name) as.character(packageVersion(name))))
write_json(
  list(
    versions = c(list(R = paste(R.version$major, R.version$minor, sep = ".")), versions),
    meta = c(list(effects = effects, variances = variances), meta),
    regression = regression, permutation = permutation, hedges = hedges,
    agreement = agreement, mixed = mixed
  ),
  target, auto_unbox = TRUE, digits = 12, pretty = TRUE
)
