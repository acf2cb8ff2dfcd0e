"""Free text as a feature: its words are learned from next to numbers and categories, and stored as safely as these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from quick import quick

from refit.config.train import TextParams
from refit.errors import UserError
from refit.learners import Labels, Spec, load, make
from refit.problems import problem_of

DEFAULT = TextParams().model_dump()
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sparse": ("sklearn.linear_model.LogisticRegression", {}),
    "dense": ("sklearn.naive_bayes.GaussianNB", {}),
    "codes and gaps": ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20}),
    "native": ("xgboost.XGBClassifier", {"n_estimators": 20}),
    "network": ("torch_tabular", {"hidden": [16], "max_epochs": 12, "batch_rows": 64, "learning_rate": 0.01}),
}


def reviews(count: int, seed: int) -> tuple[pa.Table, Labels]:
    """Remarks in which a word or two tell what is liked; one in twenty is missing."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    telling = (["awful", "poor", "sad"], ["good", "great", "lovely"])
    fillers = [f"word{n}" for n in range(150)]
    remarks = [" ".join([*random.choice(fillers, 5), *random.choice(telling[liked], 2)]) for liked in label.tolist()]
    gaps = random.random(count) < 0.05
    columns = {
        "price": random.normal(size=count),
        "shop": random.choice(["a", "b"], count),
        "remark": pa.array(remarks, mask=gaps),
    }
    return pa.table(columns), label


TRAIN, SEEN = reviews(300, 1), reviews(120, 2)


def spec_of(kind: str, params: dict[str, Any] | None = None, /, **vectoriser: Any) -> Spec:
    text = {"text": ("remark",), "vectoriser": {**DEFAULT, **vectoriser}}
    return Spec("it", kind, ("price", "remark", "shop"), frozenset({"shop"}), params or {}, **text)  # type: ignore[arg-type]


@pytest.mark.ci
@pytest.mark.parametrize("name", quick(KINDS, 0, 1))
def test_words_are_learned_from_and_stored(name: str, tmp_path: Path) -> None:
    spec = spec_of(*KINDS[name], components=20)
    learner, again = make(spec), make(spec)
    report = learner.fit(*TRAIN, validation=SEEN)
    predicted = learner.predict(SEEN[0])
    assert problem_of("binary").score("roc_auc", SEEN[1], predicted) > 0.85
    again.fit(*TRAIN, iterations=report.iterations)
    assert again.digest() == learner.digest()
    assert learner.unsafe_reason() is None
    learner.save(tmp_path)
    stored = load(tmp_path)
    assert stored.digest() == learner.digest()
    np.testing.assert_array_equal(stored.predict(SEEN[0]), predicted)
    assert stored.predict(SEEN[0].slice(0, 0)).shape == (0,)


@pytest.mark.parametrize("name", ["sparse", "native"])
def test_a_missing_text_is_an_empty_one_and_a_missing_column_is_named(name: str) -> None:
    learner = make(spec_of(*KINDS[name]))
    learner.fit(*TRAIN)
    rows = SEEN[0].drop_columns(["remark"])
    missing = rows.append_column("remark", pa.nulls(120, pa.string()))
    empty = rows.append_column("remark", pa.array([""] * 120))
    np.testing.assert_array_equal(learner.predict(missing), learner.predict(empty))
    with pytest.raises(UserError, match="feature 'remark' is missing from the rows"):
        learner.predict(rows)
    with pytest.raises(UserError, match="feature 'remark' holds double"):
        learner.predict(rows.append_column("remark", pa.array([1.0] * 120)))


def test_other_words_are_another_model() -> None:
    spec, table = spec_of("xgboost.XGBClassifier", {"n_estimators": 1, "max_depth": 1}), TRAIN[0]
    digests = set()
    for filler in ("word3", "other"):
        remarks = pa.array([text and text.replace("word3 ", f"{filler} ") for text in table["remark"].to_pylist()])
        learner = make(spec)
        learner.fit(table.set_column(2, "remark", remarks), TRAIN[1])
        digests.add(learner.digest())
    assert len(digests) == 2


def test_any_vectoriser_by_import_path() -> None:
    spec = spec_of(
        "sklearn.naive_bayes.ComplementNB",
        kind="sklearn.feature_extraction.text.HashingVectorizer",
        params={"n_features": 512, "alternate_sign": False, "ngram_range": [1, 1]},
    )
    learner = make(replace(spec, features=("remark",), categorical=frozenset()))
    learner.fit(*TRAIN)
    assert problem_of("binary").score("roc_auc", SEEN[1], learner.predict(SEEN[0])) > 0.85


@pytest.mark.parametrize(
    ("vectoriser", "said"),
    [
        (
            {"kind": "sklearn.feature_extraction.text.TfidfVectorise"},
            "did you mean 'sklearn.feature",
        ),
        ({"params": {"ngram_rang": 2}}, r"'ngram_rang'; did you mean 'ngram_range'\? \(.*train.text.params"),
        ({"params": {"ngram_range": 2}}, "'ngram_range' parameter of TfidfVectorizer must be"),
        ({"kind": "sklearn.svm.SVC", "params": {}}, "makes no columns of texts"),
    ],
)
def test_a_mistake_in_the_vectoriser_is_named_before_anything_is_fitted(vectoriser: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(spec_of("sklearn.linear_model.LogisticRegression", **vectoriser))


@pytest.mark.parametrize("name", ["sparse", "native"])
def test_texts_without_words_are_told(name: str) -> None:
    table = TRAIN[0].set_column(2, "remark", pa.array(["- . -"] * 300))
    with pytest.raises(UserError, match="empty vocabulary"):
        make(spec_of(*KINDS[name])).fit(table, TRAIN[1])


@pytest.mark.parametrize("name", ["sparse", "native"])
def test_a_vocabulary_is_stored_in_a_few_pieces_however_many_words_it_has(name: str, tmp_path: Path) -> None:
    """A vocabulary of numpy's numbers would be a file for each word."""
    import zipfile

    learner = make(spec_of(*KINDS[name], params={"max_features": 120}, components=10))
    learner.fit(*TRAIN)
    learner.save(tmp_path)
    for path in tmp_path.glob("*.skops"):
        assert len(zipfile.ZipFile(path).namelist()) < 60
