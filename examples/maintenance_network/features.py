"""An engine's last cycles as they are: a sequence of its settings and sensors."""

from __future__ import annotations

from feature_store import Expression, FeatureSet, FeatureView, Sequence, Spine

VARYING = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)  # the other sensors, and the third setting, never change
STEP = ("setting1", "setting2", *(f"s{sensor}" for sensor in VARYING))

FEATURES = FeatureSet(
    description="How many cycles an engine has left, predicted after each of its cycles. A cycle counts as a minute.",
    spine=Spine(
        source="cycles",
        key="row_key",
        prediction_time="event_time",
        features=[Expression(name="cycle", sql="cycle", description="cycles flown", unit="cycles")],
    ),
    views=[
        FeatureView(
            name="engine",
            source="sensors",
            entity=["engine"],
            features=[
                Sequence(
                    name="readings",
                    columns=STEP,
                    last=50,
                    description="the varying settings and sensors in each of the last cycles",
                )
            ],
        )
    ],
)
