"""What is known when a forecast is made: demand so far, the weather as last observed, and the calendar ahead."""

from __future__ import annotations

from feature_store import Aggregate, Expression, FeatureSet, FeatureView, Lag, Latest, Sequence, Spine

FEATURES = FeatureSet(
    description="Rentals of an hour up to a day ahead, told at the end of every hour.",
    spine=Spine(
        source="forecasts",
        key="row_key",
        features=[
            Expression(name="target_hour", sql="hour(target_time)", description="hour that is forecast"),
            Expression(name="target_weekday", sql="isodow(target_time)", description="1 is Monday"),
            Expression(
                name="target_hour_of_week",
                sql="(isodow(target_time) - 1) * 24 + hour(target_time)",
                description="0 is Monday's first",
            ),
            Expression(
                name="target_week_hour",
                sql="cast((isodow(target_time) - 1) * 24 + hour(target_time) as varchar)",
                description="the same as a category",
            ),
            Expression(name="target_month", sql="month(target_time)", description="month that is forecast"),
        ],
    ),
    views=[
        FeatureView(
            name="demand",
            source="demand",
            features=[
                Lag(
                    name="count", column="count", before=[f"{n}h" for n in range(1, 25)], description="the newest hours"
                ),
                Lag(
                    name="same_hour",
                    column="count",
                    of="target_time",
                    before=["24h", "48h", "167h", "168h", "169h", "336h", "504h"],
                    description="rentals in the target's hour of earlier days and weeks",
                ),
                Sequence(name="last_day", columns=["count"], last=24, description="its hours, oldest first"),
                Aggregate(
                    name="mean",
                    function="mean",
                    column="count",
                    windows=["6h", "24h", "168h", "672h"],
                    description="mean rentals of an hour",
                ),
            ],
        ),
        FeatureView(
            name="weather",
            source="weather",
            features=[
                Latest(name=name, column=name, description="as last observed")
                for name in ("temp", "feels", "humidity", "wind", "bad")
            ],
        ),
        FeatureView(
            name="calendar",
            source="calendar",
            features=[
                Lag(name="holiday", column="holiday", of="target_time", description="the target's day is a holiday"),
                Lag(name="working_day", column="working_day", of="target_time", description="it is a working day"),
            ],
        ),
    ],
)
