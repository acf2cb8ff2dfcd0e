"""The scene of an episode: the demand of two weeks, as it was known when they were over."""

from __future__ import annotations

from feature_store import Expression, FeatureSet, FeatureView, Sequence, Spine

FEATURES = FeatureSet(
    description="A week in which a kiosk ordered each evening, with the week before it. It is played when it is over.",
    spine=Spine(
        source="weeks",
        key="row_key",
        prediction_time="event_time + interval 1 day",
        features=[Expression(name="seed", sql="seed", description="seed of the week's customers")],
    ),
    views=[
        FeatureView(
            name="city",
            source="days",
            features=[
                Sequence(name="demand", columns=("riders",), last=14, description="riders of each of the last 14 days")
            ],
        )
    ],
)
