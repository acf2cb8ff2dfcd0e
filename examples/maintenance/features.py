"""What an engine's sensors said in its last cycles, and since it was new."""

from __future__ import annotations

from feature_store import Aggregate, Expression, FeatureSet, FeatureView, Spine

SENSORS = (
    "s2",
    "s3",
    "s4",
    "s7",
    "s8",
    "s9",
    "s11",
    "s12",
    "s13",
    "s14",
    "s15",
    "s17",
    "s20",
    "s21",
)  # others stand still

FEATURES = FeatureSet(
    description="How many cycles an engine has left, told after each of its cycles. A cycle counts as a minute.",
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
                *(
                    Aggregate(
                        name=f"{sensor}_mean",
                        function="mean",
                        column=sensor,
                        windows=["5m", "15m", "30m", "1000m"],
                        description=f"mean of sensor {sensor[1:]} over the last cycles, or all of them",
                    )
                    for sensor in SENSORS
                ),
                *(
                    Aggregate(
                        name=f"{sensor}_spread",
                        function="std",
                        column=sensor,
                        windows=["15m"],
                        description=f"standard deviation of sensor {sensor[1:]} over the last cycles",
                    )
                    for sensor in SENSORS
                ),
            ],
        )
    ],
)
