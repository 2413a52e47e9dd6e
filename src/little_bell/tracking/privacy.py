"""Privacy: how much of a hit may be stored."""

# Consents, each stricter than the one before: the strictest of all that apply to a hit counts.
FULL = 0  # everything
AGGREGATE = 1  # neither email, address nor user agent, and only the hour: totals, no uniques
NONE = 2  # nothing
CONSENTS = ("full", "aggregate", "none")

# How much of addresses is stored, by the same rule.
WHOLE = 0
TRUNCATED = 1  # /24 of IPv4, /48 of IPv6
UNKNOWN = 2  # none
ADDRESSES = ("full", "truncate", "none")
