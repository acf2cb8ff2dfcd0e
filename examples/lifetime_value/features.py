"""Recency, frequency, value and trend of a customer's purchases, as they were known on the first of October 1997."""

from __future__ import annotations

from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Latest, Spine

WINDOWS = ["4w", "8w", "13w", "26w", "39w"]

FEATURES = FeatureSet(
    description="What a customer spends in 39 weeks, from what they bought in the 39 weeks before.",
    spine=Spine(
        source="known",
        key="customer_id",
        prediction_time="timestamp '1997-10-01'",
        features=[
            Expression(
                name="days_since_first",
                sql="epoch(prediction_time - first) / 86400",
                description="days since the first purchase",
                unit="days",
            )
        ],
    ),
    views=[
        FeatureView(
            name="bought",
            source="purchases",
            entity=["customer_id"],
            features=[
                Age(name="hours_since_last", description="recency", unit="hours"),
                Latest(name="last_value", column="dollar_value", description="the newest purchase", unit="USD"),
                Aggregate(name="purchases", function="count", windows=WINDOWS, description="frequency"),
                Aggregate(name="spent", function="sum", column="dollar_value", windows=WINDOWS, unit="USD"),
                Aggregate(name="value", function="mean", column="dollar_value", windows=["39w"], unit="USD"),
                Aggregate(name="value_spread", function="std", column="dollar_value", windows=["39w"], unit="USD"),
                Aggregate(name="discs", function="sum", column="number_of_cds", windows=["39w"]),
            ],
        )
    ],
)
