"""Name the experts of `front_end`, their sizes, and the side information that they give."""

LEAST_SQUARES = ((16, 0.98), (25, 0.991), (32, 0.998))
"""Orders and forgetting factors of the least squares."""
CASCADED = (1, 2)
"""Least squares whose residual a cascade goes on from, by number."""
CASCADE = ((1280, 0.1), (256, 0.12), (32, 0.06), (8, 0.04))
"""Lengths of the filters of a cascade, and their steps."""
N_EXPERTS = len(LEAST_SQUARES) + len(CASCADED) * len(CASCADE) + 1
N_PAST = 6
"""Past samples that are side information."""
DECAYS = (0.8, 0.95, 0.99, 0.999)
"""Of the running means of absolute errors."""
SCALE = (0.66, 0.20, 0.14)
"""Shares of the first three of them in the log scale."""
N_SIDE = 1 + len(DECAYS) + N_PAST + 2 * N_EXPERTS
"""Numbers that are known of a sample before it is; the first is the log of its scale."""
EXPERTS = slice(1 + len(DECAYS) + N_PAST, 1 + len(DECAYS) + N_PAST + N_EXPERTS)
"""Where in side information the experts' predictions stand, less m and over s."""
LEVEL, PER_LEVEL = 4.0, 0.5**0.5
"""Log of a scale, of about 50 steps, from which a net counts log scales, and what it takes them
times."""
BOUND = 8.0
"""Size up to which a net tells numbers apart."""
SMALLEST = -6.0
"""Smallest log scale of a component of a net, in scales of the front end; the largest is its
opposite."""


def side_names() -> list[str]:
    """Return the names of side information."""
    experts = [f"ols_{order}" for order, _ in LEAST_SQUARES]
    experts += [f"cascade_{c}_{n}" for c in CASCADED for n, _ in CASCADE] + ["mean"]
    return [
        "log_scale",
        *(f"level_{decay}" for decay in DECAYS),
        *(f"past_{i + 1}" for i in range(N_PAST)),
        *(f"expert_{name}" for name in experts),
        *(f"error_{name}" for name in experts),
    ]
