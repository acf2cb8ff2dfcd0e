"""An image is predicted from its pixels; the label comes from another source, which names few of the images."""

from feature_store import Expression, FeatureSet, Spine

FEATURES = FeatureSet(
    spine=Spine(
        source="drawn",
        key="row_key",
        prediction_time="event_time",
        features=(Expression(name="pixels", sql="pixels", description="28 x 28 bytes", missing="never"),),
    )
)
