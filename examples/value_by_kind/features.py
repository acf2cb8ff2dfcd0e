"""Recency, frequency and value of a customer's purchases, as they were known on the first of October 1997."""

from __future__ import annotations

from feature_store import Age, Aggregate, FeatureSet, FeatureView, Spine

WINDOWS = ["13w", "26w", "39w"]

FEATURES = FeatureSet(
    description="What a customer spends in 39 weeks, from what they bought before and their kind.",
    spine=Spine(source="known", key="customer_id", prediction_time="timestamp '1997-10-01'"),
    views=[
        FeatureView(
            name="bought",
            source="purchases",
            entity=["customer_id"],
            features=[
                Age(name="hours_since_last", description="recency", unit="hours"),
                Aggregate(name="purchases", function="count", windows=WINDOWS, description="frequency"),
                Aggregate(name="spent", function="sum", column="dollar_value", windows=WINDOWS, unit="USD"),
            ],
        )
    ],
)
