"""What a customer bought in the 13 and the 26 weeks before the first of July 1997."""

from __future__ import annotations

from feature_store import Age, Aggregate, FeatureSet, FeatureView, Spine

FEATURES = FeatureSet(
    description="Recency, frequency and value of 13 and of 26 weeks.",
    spine=Spine(source="customers", key="customer_id", prediction_time="timestamp '1997-07-01'"),
    views=[
        FeatureView(
            name="bought",
            source="purchases",
            entity=["customer_id"],
            features=[
                Age(name="hours_since_last", description="recency", unit="hours"),
                Aggregate(name="purchases", function="count", windows=["13w", "26w"], description="frequency"),
                Aggregate(name="spent", function="sum", column="dollar_value", windows=["13w", "26w"], unit="USD"),
            ],
        )
    ],
)
