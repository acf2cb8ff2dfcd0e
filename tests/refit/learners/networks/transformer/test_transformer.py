"""A pretrained transformer as a learner: frozen, tuned and with adapters; stored whole, without the folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from quick import quick
from tiny_transformer import write_folder

from refit.errors import RefitError, UserError
from refit.evaluation.prediction_cost import WARM_UP, Calls, serving
from refit.files.artifacts import write_manifest
from refit.learners import Spec, load, make
from refit.learners.conformance import RULES, NotApplicable, Rule, Subject, load_in_fresh_process
from refit.learners.conformance.sample import CATEGORICAL, FEATURES, TEXT
from refit.learners.contract import Start
from refit.learners.networks import network
from refit.learners.networks.transfer import parameter_groups
from refit.learners.networks.transformer import embedding
from refit.learners.networks.transformer.encoder import Encoder, blocks_of, weights_in
from refit.learners.networks.transformer.folder import ENCODER, SETTINGS, Folder
from refit.learners.networks.transformer.learner import PretrainedNetwork, Transformer
from tests.refit.learners.networks.conftest import Rows
from tests.refit.learners.networks.test_architectures import remarks
from tests.refit.learners.networks.test_checkpoints import left_there
from tests.refit.learners.networks.transformer.conftest import spec_of

pytestmark = pytest.mark.ci

MODES: dict[str, dict[str, Any]] = {
    "frozen": {},
    "last layer": {"tuned_layers": 1},
    "all": {"tuned_layers": "all"},
    "lora": {"lora": {"rank": 4}},
}
every_mode = pytest.mark.parametrize("mode", MODES)
ROWS, UNSEEN = remarks(160, 1), remarks(60, 2)


def fitted(folder: Path, rows: Rows = ROWS, validation: Rows | None = None, **params: Any) -> Transformer:
    learner = make(spec_of(folder, **params))
    assert isinstance(learner, Transformer)
    learner.fit(*rows, validation=validation)
    return learner


def base_weights(folder: Path) -> dict[str, torch.Tensor]:
    return weights_in(Folder.read(folder), "")


def encoder_of(learner: Transformer) -> Encoder:
    assert isinstance(learner._network, PretrainedNetwork)
    return learner._network.encoder


def changed(learner: Transformer, folder: Path) -> set[str]:
    """The weights of the encoder that are no longer those of the folder."""
    before = base_weights(folder)
    return {name for name, weight in encoder_of(learner).model.state_dict().items() if not weight.equal(before[name])}


@pytest.mark.parametrize(
    ("model_type", "pooling"), quick([*((each, "mean") for each in SETTINGS), ("bert", "cls")], 0, len(SETTINGS))
)
def test_a_text_has_the_vector_that_the_library_itself_computes(
    own: Callable[..., Path], model_type: str, pooling: str
) -> None:
    import transformers

    path = own(model_type, pooling=pooling)
    theirs = transformers.AutoModel.from_pretrained(path, local_files_only=True).eval()
    folder = Folder.read(path)
    ours = Encoder(folder.config).eval()
    ours.model.load_state_dict(weights_in(folder, ""))
    numbers = torch.tensor([[2, 4, 9, 3], [2, 5, 3, folder.config.padding]])
    present = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        states = theirs(input_ids=numbers, attention_mask=present).last_hidden_state
        mean = (states * present.unsqueeze(2)).sum(1) / present.sum(1, keepdim=True)
        expected = torch.nn.functional.normalize(mean if pooling == "mean" else states[:, 0], dim=1) * 4
        mine = ours((numbers + 1) * present)
        alone = torch.cat([ours(((numbers + 1) * present)[:1]), ours(((numbers + 1) * present)[1:, :3])])
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize("mode", quick(MODES))
def test_the_same_fit_gives_the_same_bits_with_and_without_a_killed_one_before_it(
    tiny: Path, tmp_path: Path, mode: str
) -> None:
    first, second = (fitted(tiny, validation=UNSEEN, **MODES[mode]) for _ in range(2))
    assert first.digest() == second.digest()
    with left_there(tmp_path / "checkpoints"):
        make(spec_of(tiny, **MODES[mode])).fit(*ROWS, iterations=2)
    with left_there(tmp_path / "checkpoints"):
        third = make(spec_of(tiny, **MODES[mode]))
        third.fit(*ROWS, validation=UNSEEN)
    assert third.digest() == first.digest()


@every_mode
def test_a_stored_one_is_complete_without_the_folder_and_the_library_of_adapters(
    own: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    path = own()
    learner = fitted(path, **MODES[mode])
    (tmp_path / "stored").mkdir()
    learner.save(tmp_path / "stored")
    base = Folder.read(path).config.base
    shutil.rmtree(path)
    monkeypatch.setitem(sys.modules, "peft", None)
    embedding._remembered.clear()
    stored = load(tmp_path / "stored")
    assert stored.digest() == learner.digest()
    np.testing.assert_array_equal(stored.predict(UNSEEN[0]), learner.predict(UNSEEN[0]))
    assert json.loads((tmp_path / "stored" / ENCODER).read_text())["base"] == base
    assert {each.suffix for each in (tmp_path / "stored").iterdir()} == {".json", ".safetensors"}


def test_frozen_the_encoder_stays_as_it_is_and_reads_each_text_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding._remembered.clear()
    read: list[int] = []
    forward = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, tokens: read.append(len(tokens)) or forward(self, tokens))
    learner = fitted(tiny, validation=UNSEEN, epochs=5)
    texts = {text or "" for rows, _ in (ROWS, UNSEEN) for text in rows["remark"].to_pylist()}
    assert sum(read) == len(texts), "in neither of 5 epochs nor for their scores"
    learner.predict(UNSEEN[0])
    fitted(tiny, validation=UNSEEN, epochs=2)
    assert sum(read) == len(texts), "nor by another learner of the same process"
    assert changed(learner, tiny) == set()


def test_a_text_is_read_alone_so_that_its_vector_depends_on_no_other(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learners = [fitted(tiny, **MODES[mode]) for mode in ("frozen", "all")]
    read: set[tuple[int, ...]] = set()
    forward = Encoder.forward
    monkeypatch.setattr(
        Encoder, "forward", lambda self, tokens: read.add((len(tokens), int(tokens.min()))) or forward(self, tokens)
    )
    embedding._remembered.clear()
    for learner in learners:
        learner.predict(UNSEEN[0])
    assert {rows for rows, _ in read} == {1}
    assert min(smallest for _, smallest in read) > 0, "without padding"


@pytest.mark.slow
def test_the_same_weights_in_another_use_have_other_vectors(tiny: Path, tmp_path: Path) -> None:
    """Pooling, normalising, heads and activation are no weights, and decide a vector."""
    firsts = write_folder(tmp_path / "firsts", pooling="cls")
    heads = write_folder(tmp_path / "heads")
    settings = json.loads((heads / "config.json").read_text())
    (heads / "config.json").write_text(json.dumps({**settings, "num_attention_heads": 4}))
    for folder in (firsts, heads):
        fitted(tiny)
        after_another = fitted(folder)
        embedding._remembered.clear()
        np.testing.assert_array_equal(after_another.predict(UNSEEN[0]), fitted(folder).predict(UNSEEN[0]))


@pytest.mark.slow
def test_what_is_remembered_is_bounded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MOST_BYTES", 4 * 16 * 10)
    embedding._remembered.clear()
    learner = fitted(tiny)
    known = embedding.embeddings_of(learner._config)
    assert len(known) == 10
    before = learner.predict(UNSEEN[0])
    for digest in ("a" * 64, "b" * 64, "c" * 64):
        embedding.embeddings_of(learner._config.model_copy(update={"weights": digest}))
    assert len(embedding._remembered) == embedding.ENCODERS
    np.testing.assert_array_equal(learner.predict(UNSEEN[0]), before)


@pytest.mark.parametrize(
    ("params", "tuned"),
    [
        ({"tuned_layers": 1}, {"encoder.layer.2"}),
        ({"tuned_layers": 2}, {"encoder.layer.1", "encoder.layer.2"}),
        ({"tuned_layers": "all"}, {"encoder.layer.0", "encoder.layer.1", "encoder.layer.2", "embeddings"}),
        ({"tuned_layers": 2, "freeze": ["encoder.model.encoder.layer.1"]}, {"encoder.layer.2"}),
        ({"tuned_layers": 2, "freeze": ["body"], "thaw_epoch": 5}, set()),
        ({"tuned_layers": 2, "freeze": ["body"], "thaw_epoch": 1}, {"encoder.layer.1", "encoder.layer.2"}),
        ({"lora": {}}, {"encoder.layer.0", "encoder.layer.1", "encoder.layer.2"}),
    ],
)
def test_the_layers_that_the_params_name_are_tuned_and_no_others(
    tiny: Path, params: dict[str, Any], tuned: set[str]
) -> None:
    weights = changed(fitted(tiny, **params), tiny)
    parts = {".".join(name.split(".")[:3]) if name.startswith("encoder") else "embeddings" for name in weights}
    assert parts == tuned
    if "lora" in params:
        assert {name.split(".attention.self.")[1] for name in weights} == {"query.weight", "value.weight"}


def test_adapters_are_of_the_rank_and_the_layers_that_are_named(tiny: Path) -> None:
    targets = ["key", "dense"]
    learner = fitted(tiny, lora={"rank": 2, "alpha": 8, "targets": targets})
    before = base_weights(tiny)
    for name, weight in encoder_of(learner).model.state_dict().items():
        if not weight.equal(before[name]):
            assert name.endswith(("key.weight", "dense.weight"))
            assert torch.linalg.matrix_rank(weight - before[name], atol=1e-5) <= 2


def test_layers_below_learn_more_slowly(tiny: Path) -> None:
    learner = make(spec_of(tiny, tuned_layers="all", layer_decay=0.5))
    assert isinstance(learner, Transformer)
    learner._learn_preparation(*ROWS)
    network = learner._first_network()
    learner._part_to_train(network, learner._prepared.inputs(ROWS[0]), None, lambda *_: None)
    groups = parameter_groups(learner.params, network, learner._head_in(network))
    scale = {id(weight): group["scale"] for group in groups for weight in group["params"]}
    encoder = network.get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    of_layers = [{scale[id(weight)] for weight in layer.parameters()} for layer in blocks_of(encoder)]
    assert of_layers == [{0.125}, {0.25}, {0.5}]
    assert scale[id(encoder.get_parameter("model.embeddings.word_embeddings.weight"))] == 0.0625
    assert scale[id(network.get_parameter("head.linear.weight"))] == pytest.approx(10)


@pytest.mark.parametrize("mode", quick(MODES))
def test_it_goes_on_from_a_stored_one(tiny: Path, tmp_path: Path, mode: str) -> None:
    fitted(tiny, **MODES[mode]).save(tmp_path)
    before, spec = load(tmp_path), spec_of(None, **MODES[mode])
    later = [make(spec) for _ in range(2)]
    for each in later:
        each.resume(before, *remarks(60, 4), iterations=1)
    assert later[0].digest() == later[1].digest() != before.digest()


def test_that_it_goes_on_with_the_same_network_is_seen_to_the_last_bit(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that a champion reads alone, and remembers, are read here in batches: so must be those of its copy."""
    spec = replace(spec_of(tiny, tuned_layers=1), task="regression", metric="mae")
    before = make(spec)
    before.fit(ROWS[0], 1e6 * ROWS[1])
    alike: list[bool] = []
    monkeypatch.setattr(
        network, "predict_alike", lambda one, other, scale: alike.append(bool((one == other).all())) or True
    )
    before.save(tmp_path)
    make(replace(spec, start=None)).resume(load(tmp_path), ROWS[0], 1e6 * ROWS[1], iterations=0)
    assert alike == [True]


@pytest.mark.slow
def test_it_starts_from_a_stored_one_with_other_labels(tiny: Path, tmp_path: Path) -> None:
    parent = fitted(tiny, tuned_layers=1)
    parent.save(tmp_path)
    spec = replace(spec_of(None), start=Start(tmp_path, "version 1 of base", parent.digest()))
    spec = replace(spec, task="multiclass", classes=("a", "b", "c"))
    learner = make(spec)
    assert isinstance(learner, Transformer)
    learner.fit(ROWS[0], (ROWS[1] + np.arange(len(ROWS[1])) % 2).astype(np.int64))
    assert learner.predict(UNSEEN[0]).shape == (60, 3)
    assert changed(learner, tiny) == changed(parent, tiny), "the tuned encoder of its parent is the one it starts from"
    assert encoder_of(learner).model.state_dict().keys() == base_weights(tiny).keys()


def test_several_texts_of_a_row_have_a_vector_each(tiny: Path) -> None:
    table, label = ROWS
    both = pa.table({"first": table["remark"], "second": pa.array(["a w3"] * len(label)), "colour": table["colour"]})
    spec = replace(spec_of(tiny), features=("first", "second", "colour"), text=("first", "second"))
    learner = make(spec)
    assert isinstance(learner, Transformer)
    learner.fit(both, label)
    assert isinstance(learner._network, PretrainedNetwork)
    assert learner._network.head.linear.in_features >= 2 * 16
    swapped = both.rename_columns(["second", "first", "colour"])
    assert not np.allclose(learner.predict(both), learner.predict(swapped))


def test_texts_are_cut_at_the_length(tiny: Path) -> None:
    learner = fitted(tiny, length=4)
    cells = pa.table({"remark": ["a fine w1 w2 w3", "a fine w4"], "colour": ["red", "red"]})
    first, second = learner.predict(cells)
    assert first == second


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"tuned_layers": 4}, r"tuned_layers: the encoder has 3 layers; found 4 \(.*params.tuned_layers\)"),
        ({"tuned_layers": 1, "lora": {}}, "lora trains adapters in place of layers; leave lora or tuned_layers out"),
        ({"lora": {"targets": ["w_q"]}}, "no linear layer 'w_q'; it has dense, key, query, value"),
        ({"lora": {"r": 8}}, "no argument 'lora.r'"),
        ({"freeze": ["body"]}, "freeze is for layers that are trained otherwise"),
        ({"pretrain": {"kind": "masked_tokens"}}, "it is pretrained; leave pretrain out"),
        ({"processes": 2}, "it is trained by one process; leave processes out"),
        ({"tuned_layers": "some"}, r"params.tuned_layers"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(tiny: Path, params: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what) as raised:
        make(spec_of(tiny, **params)).fit(*ROWS)
    assert "\n" not in str(raised.value)


def test_without_a_folder_or_texts_or_the_library_it_says_what_to_do(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="starts from a pretrained model; name a Hugging Face folder"):
        make(spec_of(None)).fit(*ROWS)
    numbers: Spec = replace(spec_of(tiny), text=(), features=("colour",))
    with pytest.raises(UserError, match="learner 'transformer' reads texts, the features have none"):
        make(numbers)
    for library, params in (("transformers", {}), ("tokenizers", {}), ("peft", {"lora": {}})):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(UserError, match=rf"need {library}, .*'\.\[transformers\]'"):
                make(spec_of(tiny, **params)).fit(*ROWS)


def test_a_stored_one_with_a_damaged_encoder_is_refused(tiny: Path, tmp_path: Path) -> None:
    fitted(tiny).save(tmp_path)
    (tmp_path / ENCODER).write_text("{}")
    write_manifest(tmp_path)
    with pytest.raises(RefitError, match=r"encoder.json is damaged \(EncoderConfig: .*\); restore the folder"):
        load(tmp_path)


@pytest.fixture(scope="module", params=["frozen", pytest.param("lora", marks=pytest.mark.slow)])
def subject(tiny: Path, request: pytest.FixtureRequest) -> Subject:
    """Under the rules of every learner, with texts that decide the label."""
    features = (*FEATURES, TEXT)
    spec = replace(spec_of(tiny, **MODES[request.param]), features=features, categorical=CATEGORICAL, text=(TEXT,))
    subject = Subject(spec)
    load_in_fresh_process([subject])
    return subject


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_of_the_contract_is_kept(subject: Subject, rule: Rule) -> None:
    with suppress(NotApplicable):
        rule.keep(subject)


@pytest.mark.slow
def test_what_a_prediction_costs_is_measured_on_texts_as_if_never_seen(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = fitted(tiny)
    learner.predict(UNSEEN[0])
    read: list[int] = []
    forward = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, tokens: read.append(len(tokens)) or forward(self, tokens))
    cost = serving(learner, UNSEEN[0], Calls(alone=4, many=1, seconds=1e9))
    assert sum(read) == 4 + WARM_UP + 1000 * (1 + WARM_UP)
    assert cost.latency_ms.calls == 4
    read.clear()
    assert serving(learner, UNSEEN[0], Calls(alone=4, many=3, seconds=1e-9)).latency_1000_ms.calls == 1
    assert sum(read) == 1 + 1000
