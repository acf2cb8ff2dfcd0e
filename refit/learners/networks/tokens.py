"""Turns texts into tokens, by a tokenizer that is trained on the training rows and stored with the learner as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from refit.errors import RefitError, UserError, first_line
from refit.extras import install_extra
from refit.learners.networks.params import ArchitectureParams
from refit.learners.texts import column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PADDING", "TokenParams", "Tokenizer", "require_same_length"]

FILE = "tokenizer.json"
PADDING, UNKNOWN, BETWEEN = 0, 1, 2  # BETWEEN: in front of each text but the first
SPECIAL = ["[PAD]", "[UNK]", "[SEP]"]  # in the order of these numbers


class TokenParams(ArchitectureParams):
    """Arguments of every architecture that reads tokens."""

    tokenizer: Literal["word", "bpe"] = Field(
        "word", description="tokens are words and marks, or the pieces that byte-pair encoding finds"
    )
    vocabulary: int = Field(10_000, ge=300, description="most different tokens; the most frequent ones")
    length: int = Field(128, ge=1, le=4096, description="most tokens of a row; several texts share them evenly")
    lowercase: bool = Field(True, description="read capitals as small letters")


@dataclass(frozen=True)
class Tokenizer:
    """A trained tokenizer for the texts of some features."""

    names: tuple[str, ...]
    length: int
    model: Any  # tokenizers.Tokenizer

    @classmethod
    def learn(cls, names: tuple[str, ...], table: pa.Table, params: TokenParams, where: str) -> Tokenizer:
        """Train a tokenizer on all texts of a table.

        Raises:
            UserError: the library is missing, there is not a single word, or not a token for each text.
        """
        if params.length < len(names):
            raise UserError(
                f"length: {len(names)} texts share it evenly, and {params.length} leaves some without a token; set it "
                f"to {len(names)} or more ({where}.params.length)"
            )
        library = tokenizers_library(where)
        models, trainers, pre_tokenizers = library.models, library.trainers, library.pre_tokenizers
        if params.tokenizer == "word":
            model = library.Tokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
            model.pre_tokenizer = pre_tokenizers.Whitespace()
            trainer = trainers.WordLevelTrainer(
                vocab_size=params.vocabulary, special_tokens=SPECIAL, show_progress=False
            )
        else:  # Sennrich et al. 2016, over bytes: no character is unknown
            model = library.Tokenizer(models.BPE())
            model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            trainer = trainers.BpeTrainer(
                vocab_size=params.vocabulary,
                special_tokens=SPECIAL,
                initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                show_progress=False,
            )
        forms = library.normalizers
        model.normalizer = forms.Sequence([forms.NFC(), *([forms.Lowercase()] if params.lowercase else [])])
        texts = [column(table, name).tolist() for name in names]
        model.train_from_iterator((text for each in texts for text in each), trainer)
        if not any(token not in SPECIAL for token in _plain(model, texts)):
            raise UserError(
                f"text features {', '.join(map(repr, names))} hold no word in the training rows; leave them out "
                "(featurize.exclude), or widen featurize.windows"
            )
        return cls(names, params.length, model)

    @property
    def vocabulary(self) -> int:
        """The number of tokens, from 0 on."""
        return int(self.model.get_vocab_size())

    def tokens(self, table: pa.Table) -> NDArray[np.int64]:
        """(rows, most tokens of a row) the numbers of the tokens, `PADDING` after the last one.

        Of a text that is too long, the first tokens count. A missing text has none.

        Raises:
            UserError: a feature is missing or is no text.
        """
        share = max(1, self.length // len(self.names))
        rows: list[list[int]] = [[] for _ in range(table.num_rows)]
        for index, name in enumerate(self.names):
            for row, encoded in zip(rows, self.model.encode_batch(column(table, name).tolist()), strict=True):
                # a text that spells a special token holds an unknown word
                read = [UNKNOWN if number <= BETWEEN else number for number in encoded.ids]
                row += [BETWEEN, *read][:share] if index and read else read[:share]
        result = np.full((len(rows), max(1, max(map(len, rows), default=1))), PADDING, np.int64)
        for numbers, row in zip(result, rows, strict=True):
            numbers[: len(row)] = row
        return result

    def to_json(self) -> str:
        """The library's own format."""
        return str(self.model.to_str())

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, names: tuple[str, ...], length: int, where: str) -> Tokenizer:
        """Read what `save` wrote.

        Raises:
            UserError: the library is missing.
            RefitError: it is no tokenizer.
        """
        library = tokenizers_library(where)
        text = (folder / FILE).read_text(encoding="utf-8")
        try:
            json.loads(text)
            return cls(names, length, library.Tokenizer.from_str(text))
        except Exception as error:  # the library raises Exception itself
            raise RefitError(
                f"{folder / FILE} is no tokenizer ({first_line(error)}); restore the folder, or train again"
            ) from None


def require_same_length(before: ArchitectureParams, now: ArchitectureParams, vocabulary: int, where: str) -> None:
    """Refuse a network that would read other tokens of the same text than the one whose tokenizer it takes over.

    Raises:
        UserError: their `length` differs.
    """
    there, here = (params.model_dump().get("length") for params in (before, now))
    if vocabulary and there != here:
        raise UserError(
            f"length: the network that it starts from reads at most {there} tokens, this one {here}; set it to {there} "
            f"({where}.params.length)"
        )


def tokenizers_library(where: str) -> Any:
    """The module `tokenizers`, without threads of its own, which a fork would leave hanging.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise UserError(
            "networks of texts need tokenizers, which is not installed; install it next to Refit: "
            f"{install_extra('transformers')} ({where}.kind)"
        ) from None
    return tokenizers


def _plain(model: Any, texts: list[list[str]]) -> Iterator[str]:
    """Tokens of the texts, one text after the other."""
    for each in texts:
        for text in each:
            yield from model.encode(text).tokens
