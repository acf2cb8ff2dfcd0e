"""A Hugging Face folder is untrusted: what is not plain JSON and safetensors of known sizes is refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from refit.errors import RefitError, UserError
from refit.learners import make
from refit.learners.networks.transformer import folder as folders
from refit.learners.networks.transformer.encoder import Encoder
from refit.learners.networks.transformer.folder import Folder, unaltered
from tests.refit.learners.networks.test_architectures import remarks
from tests.refit.learners.networks.transformer.conftest import spec_of

Own = Callable[..., Path]


def change(path: Path, **settings: Any) -> None:
    """Change settings of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.ci
def test_what_it_says_is_read(own: Own) -> None:
    read = Folder.read(own("bert", pooling="cls"))
    assert (read.config.model_type, read.config.pooling, read.config.normalise) == ("bert", "cls", True)
    assert (read.config.settings["hidden_size"], read.config.longest) == (16, 40)
    assert read.files == ("config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json")


def test_without_words_of_pooling_it_is_the_mean_as_it_is(own: Own) -> None:
    read = Folder.read(own(pooling=None))
    assert (read.config.pooling, read.config.normalise) == ("mean", False)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_each_file_that_decides_what_it_computes_is_a_part_of_its_digest(own: Own, file: str) -> None:
    path = own()
    before = Folder.read(path).digest
    unaltered(path, before, "pretrained own")
    if file == "model.safetensors":
        own(seed=1)
    elif file == "tokenizer.json":
        (path / file).write_text((path / file).read_text() + "\n")
    elif file == "config.json":
        change(path / file, layer_norm_eps=1e-6)
    else:
        change(path / file, pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    with pytest.raises(RefitError, match=f"pretrained own was altered: its digest was {before[:12]} and is"):
        unaltered(path, before, "pretrained own")


CONFIGS = [
    ({"auto_map": {"AutoModel": "evil.Evil"}}, r"asks for code of its own \(auto_map\), which is never run"),
    ({"trust_remote_code": True}, "asks for code of its own"),
    ({"model_type": "evil"}, "model_type is 'evil'; one of bert, distilbert, electra, mpnet, roberta, xlm-roberta"),
    ({"model_type": ["bert"]}, r"model_type is \"\['bert'\]\"; one of"),
    ({"is_decoder": True}, "is_decoder is 'True', only False can be used"),
    ({"quantization_config": {"quant_method": "evil"}}, "quantization_config is .*, only None can be used"),
    ({"position_embedding_type": "relative_key"}, "only absolute can be used"),
    ({"hidden_act": "os.system"}, "hidden_act is 'os.system', not one of gelu"),
    ({"hidden_size": "16"}, "hidden_size is '16', not a number"),
    ({"hidden_size": {"a": 1}}, "hidden_size is .*, not a number"),
    ({"vocab_size": 10**12}, "vocab_size is '1000000000000', not a whole number from 1 to"),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers is '1000000', not a whole number from 1 to 200"),
    ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is '1', not from 0 to below 1"),
    ({"layer_norm_eps": 0}, "layer_norm_eps is '0', not between 0 and 1"),
    ({"vocab_size": None}, "config.json has no vocab_size, the number of tokens"),
]


@pytest.mark.parametrize(("settings", "what"), CONFIGS, ids=[next(iter(settings)) for settings, _ in CONFIGS])
def test_a_configuration_that_cannot_be_used_is_refused(own: Own, settings: dict[str, Any], what: str) -> None:
    path = own()
    change(path / "config.json", **settings)
    refused(path, what)


def refused(path: Path, what: str) -> None:
    with pytest.raises(UserError, match=what) as raised:
        Folder.read(path)
    assert "\n" not in str(raised.value)


def test_weights_stored_as_pickle_are_refused_by_name(own: Own) -> None:
    path = own()
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    refused(path, "has no model.safetensors: its weights are in pytorch_model.bin, which can run code when it is read")


def test_weights_in_several_files_are_refused(own: Own) -> None:
    path = own()
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    (path / "model.safetensors.index.json").write_text("{}")
    refused(path, "its weights are in several files, one can be used")


def test_what_is_no_such_folder_is_refused(own: Own, tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "nothing is no Hugging Face folder")
    path = own()
    (path / "tokenizer.json").unlink()
    refused(path, "has no tokenizer.json, the format of the library tokenizers")
    (path / "config.json").write_text("[" * 10_000)
    refused(path, "config.json is no JSON")
    (path / "config.json").write_bytes(b"\xff")
    refused(path, "config.json is no JSON")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(own: Own, tmp_path: Path, file: str) -> None:
    path = own()
    (path / file).rename(tmp_path / "elsewhere")
    (path / file).symlink_to(tmp_path / "elsewhere")
    refused(path, f"{file} leads out of its folder, to .*elsewhere")


def test_a_pooling_path_out_of_the_folder_is_refused(own: Own, tmp_path: Path) -> None:
    path = own()
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "../secret"}]
    (path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/config.json").write_text("{}")
    refused(path, "config.json leads out of its folder")


def test_the_links_of_hugging_faces_own_cache_are_followed_to_its_blobs(own: Own, tmp_path: Path) -> None:
    path, cached = own(), tmp_path / "models--an--own/snapshots/1234"
    cached.mkdir(parents=True)
    (blobs := tmp_path / "models--an--own/blobs").mkdir()
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (path / file).rename(blobs / file)
        (cached / file).symlink_to(f"../../blobs/{file}")
    assert Folder.read(cached).config.model_type == "bert"


def test_what_is_too_large_or_no_file_is_refused(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own()
    monkeypatch.setattr(folders, "MOST_WEIGHTS", 1000)
    refused(path, r"model.safetensors has [\d,]+ bytes, 1,000 are the most")
    (path / "modules.json").unlink()
    os.mkfifo(path / "modules.json")
    monkeypatch.setattr(folders, "MOST_WEIGHTS", 2**30)
    refused(path, "modules.json is no file")


@pytest.mark.parametrize(
    ("modules", "what"),
    [
        ([{"type": "evil.models.Dense", "path": "2_Dense"}], "part 'Dense' is none of Transformer, Pooling, Normalize"),
        ([{"type": "models.Pooling", "path": "none"}], "pooling is none; mean or cls can be used"),
        ("text", "part 'text' is none of"),
    ],
)
def test_another_pooling_is_refused(own: Own, modules: Any, what: str) -> None:
    path = own()
    (path / "modules.json").write_text(json.dumps(modules))
    refused(path, what)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"intermediate_size": 64}, "encoder.layer.0.intermediate.dense.weight is 32 x 16, config.json describes 64"),
        ({"num_hidden_layers": 4}, r"encoder.layer.3.\S+ is missing, config.json describes"),
        (
            {"vocab_size": 4_000_000},
            r"embeddings.word_embeddings.weight is 78 x 16, config.json describes 4000000 x 16",
        ),
        ({"hidden_size": 4_000_000, "num_hidden_layers": 200}, "is 78 x 16, config.json describes 78 x 4000000"),
        ({"num_attention_heads": 3}, "cannot be used .*hidden size .* multiple of the number of attention heads"),
    ],
)
def test_weights_of_other_sizes_than_described_are_refused_and_cost_no_memory(
    own: Own, settings: dict[str, Any], what: str
) -> None:
    path = own()
    change(path / "config.json", **settings)
    with pytest.raises(UserError, match=what) as raised:
        make(spec_of(path))
    assert "\n" not in str(raised.value)


def test_a_size_that_is_not_said_is_that_of_the_library(own: Own) -> None:
    config = Folder.read(own("electra")).config
    settings = {name: value for name, value in config.settings.items() if name != "hidden_size"}
    settings["num_attention_heads"] = 4  # of 256
    encoder = Encoder(config.model_copy(update={"settings": settings}))
    assert encoder(torch.tensor([[3, 4, 5]])).shape == (1, encoder.width) == (1, 256)


def test_damaged_weights_and_tokens_that_the_encoder_does_not_know_are_refused(own: Own) -> None:
    path = own()
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["surplus"] = 500
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(RefitError, match=r"tokenizer\.json has token 500, its config\.json 78 tokens"):
        make(spec_of(path)).fit(*remarks(40, 1))
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(RefitError, match=r"its tokenizer\.json is no tokenizer"):
        make(spec_of(path)).fit(*remarks(40, 1))
    own()
    (path / "model.safetensors").write_bytes(b"no such file")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be used"):
        make(spec_of(path))
