"""What is known of a flight two hours before its scheduled departure, for the reference project."""

from __future__ import annotations

from feature_store import Age, Aggregate, Expression, FeatureSet, FeatureView, Latest, Lookup, Spine

WINDOWS = ("1d", "7d", "28d")
_NO_FLIGHTS = "no such flight arrived in the window"


def _record(name: str, *entity: str, more: tuple[Aggregate, ...] = ()) -> FeatureView:
    """How the flights that share these columns fared: late rate, mean delay and count."""
    return FeatureView(
        name=name,
        source="outcomes",
        entity=entity,
        features=(
            Aggregate(
                name=f"{name}_late_rate",
                function="rate",
                column="late",
                windows=WINDOWS,
                description=f"share of arrived flights of the same {name} that were 15 or more minutes late",
                unit="share",
                missing=_NO_FLIGHTS,
            ),
            Aggregate(
                name=f"{name}_mean_delay",
                function="mean",
                column="arr_delay",
                windows=WINDOWS,
                decimals=0,
                description=f"mean arrival delay of flights of the same {name}",
                unit="minutes",
                missing=_NO_FLIGHTS,
            ),
            Aggregate(
                name=f"{name}_flights",
                function="count",
                windows=WINDOWS,
                description=f"flights of the same {name} whose outcome became known",
                unit="flights",
                missing=f"the {name} is not known",
            ),
            *more,
        ),
    )


def _mean(name: str, column: str, *windows: str, what: str) -> Aggregate:
    """The mean of whole minutes."""
    return Aggregate(
        name=name,
        function="mean",
        column=column,
        windows=windows,
        decimals=0,
        description=f"mean {what}",
        unit="minutes",
        missing="no such flight in the window",
    )


def _of_row(name: str, sql: str, description: str, unit: str = "", missing: str = "never") -> Expression:
    return Expression(name=name, sql=sql, description=description, unit=unit, missing=missing)


_MINUTE = "(sched_dep_time // 100 * 60 + sched_dep_time % 100)"
_ARRIVAL_MINUTE = "(sched_arr_time // 100 * 60 + sched_arr_time % 100)"
_LOCAL_DAY = f"(event_time - to_minutes({_MINUTE}))"  # midnight in New York, as a UTC time some hours into its date

SPINE = Spine(
    source="schedule",
    key="flight_id",
    prediction_time="event_time - interval 2 hour",
    features=(
        _of_row("carrier", "carrier", "airline"),
        _of_row("origin", "origin", "airport of departure"),
        _of_row("dest", "dest", "airport of arrival"),
        _of_row("month", f"month({_LOCAL_DAY})", "month of departure, local", "1-12"),
        _of_row("weekday", f"isodow({_LOCAL_DAY})", "day of the week of departure, local", "1 Monday - 7"),
        _of_row("departure_minute", _MINUTE, "scheduled departure, local, after midnight", "minutes"),
        _of_row("arrival_minute", _ARRIVAL_MINUTE, "scheduled arrival, local, after midnight", "minutes"),
        _of_row("distance", "distance", "distance between the airports", "miles"),
        _of_row("hour_band", "lpad((local_hour // 3 * 3)::varchar, 2, '0')", "three hours of the day, local"),
    ),
)

VIEWS = (
    _record(
        "carrier",
        "carrier",
        more=(_mean("carrier_recent_delay", "arr_delay", "6h", what="arrival delay of the carrier's flights"),),
    ),
    _record("origin", "origin"),
    _record("dest", "dest"),
    _record("route_carrier", "origin", "dest", "carrier"),
    _record("flight_number", "carrier", "flight"),
    _record("origin_hour", "origin", "local_hour"),
    _record("aircraft", "tailnum"),
    FeatureView(
        name="origin_carrier",
        source="outcomes",
        entity=("origin", "carrier"),
        features=(
            _mean(
                "origin_carrier_delay", "arr_delay", "1d", "28d", what="arrival delay of the carrier from the origin"
            ),
        ),
    ),
    FeatureView(
        name="origin_departures",
        source="departures",
        entity=("origin",),
        features=(
            _mean("origin_departure_delay", "dep_delay", "1h", "3h", what="departure delay at the origin"),
            Aggregate(
                name="origin_departure_late",
                function="rate",
                column="dep_delay >= 15",
                windows=("3h",),
                description="share of departures from the origin that left 15 or more minutes late",
                unit="share",
                missing="no departure in the window",
            ),
        ),
    ),
    FeatureView(
        name="origin_carrier_departures",
        source="departures",
        entity=("origin", "carrier"),
        features=(
            _mean("origin_carrier_departure_delay", "dep_delay", "6h", what="departure delay of the carrier there"),
        ),
    ),
    FeatureView(
        name="dest_departures",
        source="departures",
        entity=("dest",),
        features=(
            _mean("dest_departure_delay", "dep_delay", "6h", what="departure delay of flights to the destination"),
        ),
    ),
    FeatureView(
        name="aircraft_last",
        source="outcomes",
        entity=("tailnum",),
        where="arr_delay is not null",
        ttl="14d",
        features=(
            Latest(
                name="aircraft_last_delay",
                column="arr_delay",
                description="arrival delay of the aircraft's newest known flight from New York",
                unit="minutes",
                missing="none in 14 days, or the aircraft is not known",
            ),
            Age(
                name="aircraft_last_age",
                description="time since that arrival",
                unit="hours",
                missing="none in 14 days, or the aircraft is not known",
            ),
        ),
    ),
    FeatureView(
        name="aircraft_departed",
        source="departures",
        entity=("tailnum",),
        where="dep_delay is not null",
        ttl="2d",
        features=(
            Latest(
                name="aircraft_departure_delay",
                column="dep_delay",
                description="delay of the aircraft's newest known departure from New York",
                unit="minutes",
                missing="none in 2 days, or the aircraft is not known",
            ),
            Age(
                name="aircraft_departure_age",
                description="time since that departure",
                unit="hours",
                missing="none in 2 days, or the aircraft is not known",
            ),
        ),
    ),
    FeatureView(
        name="weather",
        source="weather",
        entity=("origin",),
        ttl="6h",
        features=tuple(
            Latest(
                name=name,
                column=name,
                description=f"newest published {what} at the origin",
                unit=unit,
                missing="not measured",
            )
            for name, what, unit in (
                ("temp", "temperature", "F"),
                ("dewp", "dew point", "F"),
                ("humid", "relative humidity", "%"),
                ("wind_dir", "direction of the wind", "degrees"),
                ("wind_speed", "speed of the wind", "mph"),
                ("wind_gust", "speed of gusts", "mph"),
                ("precip", "precipitation in the hour", "inches"),
                ("pressure", "pressure at sea level", "mbar"),
                ("visib", "visibility", "miles"),
            )
        ),
    ),
)

LOOKUPS = (
    Lookup(
        name="planes",
        source="planes",
        key=("tailnum",),
        features=(
            _of_row("aircraft_age", "year(event_time) - planes.year", "since it was built", "years", "not registered"),
            _of_row("aircraft_seats", "planes.seats", "size of the aircraft", "seats", "not registered"),
        ),
    ),
)

FEATURES = FeatureSet(
    spine=SPINE, views=VIEWS, lookups=LOOKUPS, description="Flights from New York, two hours before departure"
)
