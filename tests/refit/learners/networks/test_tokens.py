"""Networks of texts: the tokenizer is trained on training rows only, and stored with the learner."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from refit.errors import RefitError, UserError
from refit.files.artifacts import write_manifest
from refit.learners import Spec, load, make
from refit.learners.contract import Start
from refit.learners.networks.architecture import architecture
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.network import Network
from refit.learners.networks.tokens import BETWEEN, FILE, PADDING, UNKNOWN, Tokenizer, TokenParams

pytest.importorskip("tokenizers", reason="needs the extra [transformers]")

KINDS = ("text_embedding", "text_transformer")
VECTORISER = {"kind": "sklearn.feature_extraction.text.TfidfVectorizer", "params": {}, "components": 50}
TEXTS = pa.table(
    {
        "title": ["A good day", "a bad day", None, "good"],
        "body": ["It rained , it rained .", "", "Größe 東京 🙂", "good good good good good good"],
    }
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def tokenizer(*names: str, **params: Any) -> Tokenizer:
    return Tokenizer.learn(names, TEXTS, TokenParams(**params), "params.yaml")


def words(trained: Tokenizer, table: pa.Table) -> list[list[str]]:
    """The tokens of each row as texts."""
    return [[trained.model.id_to_token(each) for each in row if each] for row in trained.tokens(table).tolist()]


def spec_of(kind: str, **params: Any) -> Spec:
    quick = {"epochs": 2, "units": 8, **params}
    return Spec("it", kind, ("title", "body"), params=quick, text=("title", "body"), vectoriser=VECTORISER)


def test_words_and_marks_are_tokens_and_several_texts_follow_one_another() -> None:
    assert words(tokenizer("title", "body"), TEXTS.slice(0, 2)) == [
        ["a", "good", "day", "[SEP]", "it", "rained", ",", "it", "rained", "."],
        ["a", "bad", "day"],
    ]


def test_rows_end_in_padding_and_a_missing_text_has_no_token() -> None:
    read = tokenizer("title").tokens(TEXTS)
    assert ((read != PADDING).sum(axis=1).tolist(), read.shape) == ([3, 3, 0, 1], (4, 3))


def test_the_first_tokens_of_a_long_text_count_and_no_text_pushes_another_out() -> None:
    read = tokenizer("body", "title", length=6)
    assert words(read, TEXTS.slice(3)) == [["good", "good", "good", "[SEP]", "good"]]


def test_a_word_of_no_training_row_is_unknown_and_so_is_one_that_spells_a_special_token() -> None:
    odd = pa.table({"title": ["good luck", "[PAD] good [SEP]"]})
    trained = tokenizer("title")
    good = trained.model.token_to_id("good")
    assert trained.tokens(odd).tolist() == [[good, UNKNOWN, PADDING], [UNKNOWN, good, UNKNOWN]]
    assert BETWEEN not in trained.tokens(odd)


def test_byte_pair_encoding_reads_any_character() -> None:
    other = pa.table({"title": ["東京 ẞ \x00 𝄞"]})
    read = tokenizer("title", tokenizer="bpe").tokens(other)
    assert (read > BETWEEN).all()


def test_capitals_matter_only_if_they_are_to() -> None:
    assert words(tokenizer("title", lowercase=False), TEXTS.slice(0, 1)) == [["A", "good", "day"]]


@pytest.mark.parametrize("kind", KINDS)
def test_more_texts_than_tokens_are_refused_before_anything_is_learned(kind: str) -> None:
    said = (
        r"length: 2 texts share it evenly, and 1 leaves some without a token; set it to 2 or more \(.*params.length\)"
    )
    with pytest.raises(UserError, match=said):
        make(spec_of(kind, length=1)).fit(TEXTS, np.array([1, 0, 1, 0]))


def test_texts_without_a_word_are_refused() -> None:
    with pytest.raises(UserError, match="text features 'title' hold no word in the training rows"):
        Tokenizer.learn(("title",), pa.table({"title": ["", " ", None]}), TokenParams(), "params.yaml")


TRAIN_BOTH = """
import hashlib, random
import pyarrow as pa
from refit.learners.networks.tokens import Tokenizer, TokenParams
random.seed(0)
table = pa.table({"t": [" ".join(f"w{int(random.expovariate(.01))}" for _ in range(20)) for _ in range(200)]})
for kind in ("word", "bpe"):
    trained = Tokenizer.learn(("t",), table, TokenParams(tokenizer=kind, vocabulary=400), "")
    print(hashlib.sha256(trained.to_json().encode()).hexdigest())
"""


@pytest.mark.slow
def test_another_process_trains_the_same_tokenizers(capsys: pytest.CaptureFixture[str]) -> None:
    exec(TRAIN_BOTH, {})
    other = subprocess.run([sys.executable, "-c", TRAIN_BOTH], capture_output=True, text=True, check=True)
    assert capsys.readouterr().out == other.stdout != ""


@every_kind
def test_the_tokenizer_is_stored_as_json_and_belongs_to_the_digest(kind: str, tmp_path: Path) -> None:
    label = np.array([1, 0, 0, 1])
    learner = make(spec_of(kind))
    assert isinstance(learner, Network)
    learner.fit(TEXTS, label)
    before, prepared = learner.digest(), learner._prepared
    learner._preparation = replace(prepared, tokenizer=tokenizer("title", "body", lowercase=False))
    assert learner.digest() != before
    learner._preparation = prepared
    learner.save(tmp_path)
    stored = load(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}
    assert stored.digest() == learner.digest()
    np.testing.assert_array_equal(stored.predict(TEXTS), learner.predict(TEXTS))
    (tmp_path / FILE).write_text("{}")
    write_manifest(tmp_path)
    with pytest.raises(RefitError, match=r"tokenizer.json is no tokenizer \(.*\); restore the folder"):
        load(tmp_path)


@pytest.mark.parametrize("lengths", [(8, 4), (4, 8)])
def test_a_network_reads_as_many_tokens_as_the_one_it_starts_from_or_goes_on_from(
    lengths: tuple[int, int], tmp_path: Path
) -> None:
    """For only the length of its own params is stored with it."""
    label, (there, here) = np.array([1, 0, 0, 1]), lengths
    before = make(spec_of("text_embedding", length=there))
    before.fit(TEXTS, label)
    before.save(tmp_path)
    start = Start(tmp_path, "version 1 of base", before.digest())
    message = rf"length: .* reads at most {there} tokens, this one {here}; set it to {there} \(here.params.length\)"
    with pytest.raises(UserError, match=message):
        make(replace(spec_of("text_embedding", length=here), start=start), where="here")
    with pytest.raises(UserError, match=message):
        make(spec_of("text_embedding", length=here), where="here").resume(before, TEXTS, label)
    make(spec_of("text_embedding", length=there)).resume(before, TEXTS, label)


def test_what_no_weight_shows_is_another_architecture_too(tmp_path: Path) -> None:
    """Two heads of attention have the weights of one."""
    one, two = (spec_of("text_transformer", layers=1, heads=heads, warmup_epochs=0.0) for heads in (1, 2))
    label, before = np.array([1, 0, 0, 1]), make(one)
    before.fit(TEXTS, label)
    before.save(tmp_path)
    what = "another architecture: the same weights predict something else; its params are .*heads: 1"
    with pytest.raises(UserError, match=what):
        make(two).resume(before, TEXTS, label, iterations=1)
    with pytest.raises(UserError, match=what):
        make(replace(two, start=Start(tmp_path, "version 1 of base", before.digest()))).fit(TEXTS, label)


@every_kind
def test_without_the_library_the_extra_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        UserError, match=r"uv pip install -c constraints.txt -e '.\[transformers\]' --torch-backend=auto \(here.kind\)"
    ):
        make(spec_of(kind), where="here")


@every_kind
def test_features_without_a_text_are_refused(kind: str) -> None:
    spec = replace(spec_of(kind), text=(), features=("x",))
    with pytest.raises(UserError, match=f"learner '{kind}' reads texts, the features have none; name one under"):
        make(spec).fit(pa.table({"x": [0.0, 1.0]}), np.array([0, 1]))


@every_kind
def test_padding_changes_no_bit_and_the_order_of_words_matters_to_the_transformer(kind: str) -> None:
    torch.manual_seed(0)
    chosen = architecture(kind)
    module = chosen.build(chosen.Params(length=40), InputShapes(vocabulary=20), 1).eval()
    torch.nn.init.normal_(module.get_parameter("embedding.weight"))  # so that words count as much as in a trained one
    tokens = torch.tensor([[5, 7, 9, 0, 0], [3, 0, 0, 0, 0], [0, 0, 0, 0, 0], [9, 7, 5, 0, 0]])
    nothing = torch.zeros(4, 0)
    with torch.no_grad():
        short, long = (
            module(Inputs(nothing.long(), nothing, tokens=torch.nn.functional.pad(tokens, (0, more))))
            for more in (0, 30)
        )
    assert torch.equal(short, long)
    assert short.isfinite().all()
    assert torch.isclose(short[0], short[3], atol=1e-6) == (kind == "text_embedding")
