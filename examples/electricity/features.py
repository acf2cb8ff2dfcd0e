"""What is known at the start of a half hour: the market so far, and whether the price went up before."""

from __future__ import annotations

from feature_store import Aggregate, Expression, FeatureSet, FeatureView, Lag, Spine

HALF_HOURS = ["30m", "60m", "90m", "24h", "168h"]

FEATURES = FeatureSet(
    description="Half hours of the electricity market of New South Wales: is the price above its mean of the last day?",
    spine=Spine(
        source="half_hours",
        key="number",
        prediction_time="event_time",
        features=[
            Expression(name="period", sql="period", description="time of day, from 0 to 1"),
            Expression(name="morning", sql="sin(2 * pi() * period)", description="the same as a wave"),
            Expression(name="noon", sql="cos(2 * pi() * period)", description="the same as a wave"),
            *(
                Expression(name=name, sql=name, description="as the benchmark has it")
                for name in ("nswdemand", "vicprice", "vicdemand", "transfer")
            ),
        ],
    ),
    views=[
        FeatureView(
            name="outcomes",
            source="outcomes",
            features=[
                Lag(name="up", column="up", before=HALF_HOURS, description="the label of an earlier half hour"),
                Lag(name="price", column="price", before=HALF_HOURS, description="the price of an earlier half hour"),
                Aggregate(
                    name="mean_price", function="mean", column="price", windows=["24h"], description="of the last day"
                ),
            ],
        ),
        FeatureView(
            name="demand",
            source="half_hours",
            features=[Lag(name="demand", column="nswdemand", before=["30m"], description="half an hour ago")],
        ),
    ],
)
