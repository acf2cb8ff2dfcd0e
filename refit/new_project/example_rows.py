"""The rows of a new project's generated table, only there to have something that runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta


def subscriptions() -> Iterator[str]:
    """Generate ten months of synthetic renewals in which price, support calls and few logins cause churn."""
    chance = random.Random(20130101)
    yield "subscription,renewal,plan,country,tenure_months,monthly_price,support_calls,logins,churned"
    day, number = date(2024, 1, 1), 0
    while day < date(2024, 11, 1):
        for _ in range(chance.randint(22, 34)):
            number += 1
            plan = chance.choice(("basic", "basic", "plus", "pro"))
            country = chance.choice(("DE", "FR", "PL", "US", "US"))
            tenure = int(chance.expovariate(1 / 14)) + 1
            price = round({"basic": 9.0, "plus": 19.0, "pro": 49.0}[plan] * chance.uniform(0.8, 1.2), 2)
            calls, logins = int(chance.expovariate(1 / 1.2)), int(chance.expovariate(1 / 12))
            odds = -1.3 + 0.45 * calls - 0.06 * logins - 0.03 * tenure + 0.02 * price + chance.gauss(0, 0.6)
            churned = "yes" if odds > 0 else "no"
            yield f"S{number:05d},{day},{plan},{country},{tenure},{price},{calls},{logins},{churned}"
        day += timedelta(days=1)
