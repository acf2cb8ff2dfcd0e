"""Turns texts into the tokens that a pretrained encoder knows, by the tokenizer of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.errors import RefitError, first_line
from refit.learners.networks.tokens import PADDING, Tokenizer, tokenizers_library
from refit.learners.networks.transformer.folder import EncoderConfig
from refit.learners.texts import column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PretrainedTokenizer"]


@dataclass(frozen=True)
class PretrainedTokenizer(Tokenizer):
    """A tokenizer that reads each text by itself, with the special tokens that its encoder was trained with.

    The numbers of tokens are 1 more than the encoder's, because 0 is `PADDING`.
    """

    empty: int = 0  # the encoder's number that stands for a text without any token

    @classmethod
    def of(cls, text: str, names: tuple[str, ...], length: int, encoder: EncoderConfig, where: str) -> Tokenizer:
        """Read the JSON of a tokenizer.

        Raises:
            UserError: the library is missing.
            RefitError: it is no tokenizer, or has tokens that the encoder does not know.
        """
        library: Any = tokenizers_library(where)
        try:
            model = library.Tokenizer.from_str(text)
            model.no_padding()
            model.enable_truncation(length)
            highest = max(model.get_vocab().values(), default=0)
        except Exception as error:  # the library raises Exception itself
            raise RefitError(f"{where}: its tokenizer.json is no tokenizer ({first_line(error)})") from None
        if highest >= (vocabulary := int(encoder.settings["vocab_size"])):
            raise RefitError(f"{where}: its tokenizer.json has token {highest}, its config.json {vocabulary} tokens")
        return cls(names, length, model, encoder.padding)

    def tokens(self, table: pa.Table) -> NDArray[np.int64]:
        """(rows, texts x tokens) the texts of a row one after the other, each with `PADDING` after its last token."""
        texts = [self.model.encode_batch(column(table, name).tolist()) for name in self.names]
        read = [[encoded.ids or [self.empty] for encoded in each] for each in texts]
        longest = max((len(ids) for each in read for ids in each), default=1)
        result = np.full((table.num_rows, len(self.names), longest), PADDING, np.int64)
        for index, each in enumerate(read):
            for row, ids in zip(result[:, index], each, strict=True):
                row[: len(ids)] = np.asarray(ids) + 1
        return result.reshape(table.num_rows, len(self.names) * longest)
