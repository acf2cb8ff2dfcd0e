"""Reads a Hugging Face folder as what it is, untrusted: JSON and safetensors only, nothing run, nothing downloaded."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from refit.errors import RefitError, UserError, first_line
from refit.files.artifacts import digest, sha256
from refit.schemas.artifact import Part

__all__ = ["ENCODER", "EncoderConfig", "Folder", "unaltered"]

CONFIG, WEIGHTS, TOKENIZER, MODULES = "config.json", "model.safetensors", "tokenizer.json", "modules.json"
ENCODER = "encoder.json"  # what a stored learner keeps of the folder's configuration
PICKLES = ("pytorch_model.bin", "tf_model.h5", "model.ckpt.index", "flax_model.msgpack", "model.pt", "model.bin")
MOST_JSON, MOST_WEIGHTS = 64 * 2**20, 8 * 2**30  # bytes
MOST_SIZE, MOST_LAYERS = 2**22, 200  # of one dimension of a weight
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")
BERT = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "layer_norm_eps"),
    "pad_token_id",
)
SETTINGS: Mapping[str, tuple[str, ...]] = {  # what is read of config.json, by its model_type; all else is left unread
    "bert": (*BERT, "type_vocab_size"),
    "distilbert": (
        *("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation", "dropout", "attention_dropout"),
        *("max_position_embeddings", "sinusoidal_pos_embds", "pad_token_id"),
    ),
    "electra": (*BERT, "type_vocab_size", "embedding_size"),
    "mpnet": (*BERT, "relative_attention_num_buckets"),
    "roberta": (*BERT, "type_vocab_size"),
    "xlm-roberta": (*BERT, "type_vocab_size"),
}
POSITIONS_AFTER_PADDING = ("mpnet", "roberta", "xlm-roberta")  # the first position is the one after pad_token_id
ADVICE = "name another folder in train.start_from"


class EncoderConfig(Part):
    """A transformer encoder, and how a text's vector is made of its tokens' vectors."""

    model_type: str
    settings: Mapping[str, bool | int | float | str]  # arguments of the library's configuration class
    pooling: Literal["mean", "cls"]  # the mean over a text's tokens, or the vector of its first one
    normalise: bool  # a text's vector has length 1
    base: str = Field(pattern="[0-9a-f]{64}")  # sha256 of the pretrained weights
    weights: str = Field(pattern="[0-9a-f]{64}")  # the same, or the digest of weights that were tuned since

    @property
    def padding(self) -> int:
        """The number of the padding token."""
        return int(self.settings.get("pad_token_id", 0))

    @property
    def longest(self) -> int:
        """The most tokens that it reads."""
        reserved = self.padding + 1 if self.model_type in POSITIONS_AFTER_PADDING else 0
        return int(self.settings.get("max_position_embeddings", 512)) - reserved


@dataclass(frozen=True)
class Folder:
    """A checked folder: its encoder, its weights and its tokenizer."""

    config: EncoderConfig
    weights: Path
    tokenizer: str  # JSON of the library `tokenizers`
    files: tuple[str, ...]  # all that were read

    @property
    def digest(self) -> str:
        """Digest of all that decides what the model computes."""
        return digest({"encoder": self.config.to_json(), "tokenizer": self.tokenizer})

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Read a folder.

        Raises:
            UserError: a file is missing, damaged, too large, leads out of the folder, or asks for code of its own, or
                the weights are stored as pickle.
        """
        config = _json(path, CONFIG)
        if config is None or not isinstance(config, dict):
            raise UserError(f"{path} is no Hugging Face folder: it has no {CONFIG} with an object; {ADVICE}")
        weights = _file(path, WEIGHTS, MOST_WEIGHTS)
        if weights is None:
            raise UserError(f"{path} has no {WEIGHTS}{_instead(path)}; {ADVICE}")
        tokenizer = _file(path, TOKENIZER, MOST_JSON)
        if tokenizer is None:
            raise UserError(f"{path} has no {TOKENIZER}, the format of the library tokenizers; {ADVICE}")
        pooling, normalise, extra = _pooling(path)
        model_type, settings = _settings(path, config)
        content = sha256(weights)
        encoder = EncoderConfig(
            model_type=model_type,
            settings=settings,
            pooling=pooling,
            normalise=normalise,
            base=content,
            weights=content,
        )
        try:
            text = tokenizer.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{tokenizer} is no text; {ADVICE}") from None
        return cls(encoder, weights, text, (CONFIG, WEIGHTS, TOKENIZER, *extra))


def _settings(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, bool | int | float | str]]:
    """The model's type, and the settings that we hand to the library: known names with plain values within bounds."""
    at = path / CONFIG
    if "auto_map" in config or config.get("trust_remote_code"):
        raise UserError(f"{at} asks for code of its own (auto_map), which is never run; {ADVICE}")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in SETTINGS:
        raise UserError(f"{at}: model_type is {str(model_type)[:40]!r}; one of {', '.join(SETTINGS)} can be used")
    for name, usual in (
        ("is_decoder", False),
        ("add_cross_attention", False),
        ("position_embedding_type", "absolute"),
        ("quantization_config", None),
    ):
        if config.get(name, usual) not in (usual, None):
            raise UserError(f"{at}: {name} is {str(config[name])[:40]!r}, only {usual} can be used; {ADVICE}")
    settings = {name: config[name] for name in SETTINGS[model_type] if config.get(name) is not None}
    if "vocab_size" not in settings:
        raise UserError(f"{at} has no vocab_size, the number of tokens that the weights are for; {ADVICE}")
    for name, value in settings.items():
        if problem := _problem(name, value):
            raise UserError(f"{at}: {name} is {str(value)[:40]!r}, {problem}; {ADVICE}")
    return model_type, settings


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with a setting, or None."""
    if name in ("hidden_act", "activation"):
        return None if value in ACTIVATIONS else f"not one of {', '.join(ACTIVATIONS)}"
    if name == "sinusoidal_pos_embds":
        return None if isinstance(value, bool) else "not true or false"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "not a number"
    if name.endswith("_eps"):
        return None if 0 < value < 1 else "not between 0 and 1"
    if "dropout" in name:
        return None if 0 <= value < 1 else "not from 0 to below 1"
    least, most = (0 if name == "pad_token_id" else 1), (MOST_LAYERS if name.endswith("_layers") else MOST_SIZE)
    return None if isinstance(value, int) and least <= value <= most else f"not a whole number from {least} to {most:,}"


def _pooling(path: Path) -> tuple[Literal["mean", "cls"], bool, tuple[str, ...]]:
    """The pooling, whether vectors are normalised, and the files that say so; without any, the mean as it is.

    sentence-transformers lists its parts in modules.json: a transformer, its pooling, and what follows.
    """
    modules = _json(path, MODULES)
    if modules is None:
        return "mean", False, ()
    pooling, normalise, files = "mean", False, [MODULES]
    for module in modules if isinstance(modules, list) else [modules]:
        kind = str(module.get("type", "") if isinstance(module, dict) else module).rpartition(".")[2]
        if kind == "Pooling":
            name = f"{module.get('path', '')}/{CONFIG}".lstrip("/")
            chosen = _json(path, name)
            on = sorted(key for key, value in chosen.items() if key.startswith("pooling_mode") and value) if (
                isinstance(chosen, dict)
            ) else []  # fmt: skip
            if on not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
                raise UserError(
                    f"{path / name}: pooling is {', '.join(on) or 'none'}; mean or cls can be used; {ADVICE}"
                )
            pooling = "cls" if "cls" in on[0] else "mean"
            files.append(name)
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise UserError(
                f"{path / MODULES}: part {kind[:40]!r} is none of Transformer, Pooling, Normalize; {ADVICE}"
            )
    return ("cls" if pooling == "cls" else "mean"), normalise, tuple(files)


def _file(path: Path, name: str, most: int) -> Path | None:
    """A file of the folder, or None if there is none.

    Raises:
        UserError: it leads out of the folder, is no regular file or is too large.
    """
    file, roots = path / name, [path.resolve()]
    if path.resolve().parent.name == "snapshots":  # of Hugging Face's own cache, whose files are links to its blobs
        roots.append(path.resolve().parent.parent / "blobs")
    try:
        target = file.resolve(strict=True)
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({first_line(error)}); {ADVICE}") from None
    if not any(target.is_relative_to(root) for root in roots):
        raise UserError(f"{file} leads out of its folder, to {target}; copy the file itself there, or {ADVICE}")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{file} is no file; {ADVICE}")
    if status.st_size > most:
        raise UserError(f"{file} has {status.st_size:,} bytes, {most:,} are the most; {ADVICE}")
    return file


def _json(path: Path, name: str) -> Any:
    """The content of a JSON file, or None if there is none."""
    file = _file(path, name, MOST_JSON)
    if file is None:
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON ({first_line(error)}); {ADVICE}") from None


def _instead(path: Path) -> str:
    """What weights it has in their place."""
    if (path / f"{WEIGHTS}.index.json").exists():
        return ": its weights are in several files, one can be used"
    if pickles := [name for name in PICKLES if (path / name).exists()]:
        return f": its weights are in {pickles[0]}, which can run code when it is read; only safetensors are"
    return ""


def unaltered(path: Path, recorded: str, name: str) -> Folder:
    """Read a folder that must still be the one that was recorded.

    Raises:
        RefitError: it was altered.
    """
    folder = Folder.read(path)
    if folder.digest != recorded:
        raise RefitError(
            f"train.start_from: {name} was altered: its digest was {recorded[:12]} and is {folder.digest[:12]}; "
            "restore it from a copy, or name another one"
        )
    return folder
