"""The learner of kind `transformer`: a pretrained encoder of texts with a linear head, tuned or as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

from refit.config.section import first_complaint
from refit.errors import RefitError, UserError
from refit.files.artifacts import write_json
from refit.learners import canonical
from refit.learners.contract import Declaration, Floats, Labels, Spec
from refit.learners.networks.architecture import Architecture
from refit.learners.networks.blocks import Columns, squeezed
from refit.learners.networks.devices import rows_at_once
from refit.learners.networks.inputs import Inputs, InputShapes
from refit.learners.networks.network import Network
from refit.learners.networks.params import ArchitectureParams, checked
from refit.learners.networks.tokens import FILE, Tokenizer
from refit.learners.networks.transformer.embedding import Embeddings, Show, embed, embeddings_of
from refit.learners.networks.transformer.encoder import (
    Encoder,
    blocks_of,
    check_weights,
    transformers_library,
    weights_in,
)
from refit.learners.networks.transformer.folder import ENCODER, EncoderConfig, Folder
from refit.learners.networks.transformer.lora import add_adapters, merge_adapters
from refit.learners.networks.transformer.params import Params
from refit.learners.networks.transformer.reading import PretrainedTokenizer
from refit.runtime.context import Progress

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDED = "texts, embedded"  # the vector of `Inputs` that stands for the texts


class Head(nn.Module):
    """One linear layer over the embedded texts of a row and its other columns."""

    def __init__(self, shapes: InputShapes, width: int, dropout: float, outputs: int) -> None:
        super().__init__()
        self.columns = Columns(replace(shapes, vectors={**shapes.vectors, EMBEDDED: width}))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(self.columns.width, outputs)

    def forward(self, batch: Inputs) -> Tensor:
        return squeezed(self.linear(self.dropout(self.columns(batch))))


class PretrainedNetwork(nn.Module):
    """The head over an encoder, which reads each text of a row by itself."""

    def __init__(self, encoder: Encoder, texts: int, shapes: InputShapes, dropout: float, outputs: int) -> None:
        super().__init__()
        self.encoder, self.texts = encoder, texts
        self.head = Head(shapes, texts * encoder.width, dropout, outputs)

    def forward(self, batch: Inputs) -> Tensor:
        tokens = self.texts_of(batch)
        longest = int((tokens != 0).sum(dim=1).max()) if len(tokens) else 1
        result: Tensor = self.head(self.with_vectors(batch, self.encoder(tokens[:, : max(1, longest)])))
        return result

    def texts_of(self, batch: Inputs) -> Tensor:
        """(rows x texts, tokens)."""
        assert batch.tokens is not None
        return batch.tokens.reshape(len(batch) * self.texts, -1 if len(batch) else 1)

    def with_vectors(self, batch: Inputs, vectors: Tensor) -> Inputs:
        """The rows with the vectors of their texts in place of the tokens."""
        joined = vectors.reshape(len(batch), self.texts * self.encoder.width)
        return replace(batch, vectors={**batch.vectors, EMBEDDED: joined}, tokens=None)


@dataclass(frozen=True)
class PretrainedArchitecture:
    """What kind `transformer` reads; the learner builds its network itself, by the configuration of an encoder."""

    Params: ClassVar[type[ArchitectureParams]] = Params
    needs: ClassVar[frozenset[str]] = frozenset({"text", "columns", "vector"})


ARCHITECTURE = cast(Architecture, PretrainedArchitecture())


class Transformer(Network):
    """Starts from a Hugging Face folder (`Spec.start`), or from a stored learner of this kind."""

    params: Params

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._folder, self._encoder = _start_of(spec)
        transformers_library(f"{where}.kind")  # so that a missing library is an early error
        if self._folder:
            check_weights(self._folder, f"{where}.kind")  # the same, and before any memory is taken
        super().__init__(spec, where=where)
        if not spec.text:
            raise UserError(
                f"learner {spec.kind!r} reads texts, the features have none; name one under featurize.text, or choose "
                f"another kind ({where}.kind)"
            )

    @property
    def declaration(self) -> Declaration:
        return replace(super().declaration, sequences=False, pretrained=True)

    def _read(self, where: str) -> tuple[Architecture, ArchitectureParams]:
        return ARCHITECTURE, checked(Params, self.spec.kind, self.spec.params, where)

    def _tokenizer(self, table: pa.Table) -> Tokenizer | None:
        if self._folder is None:
            raise UserError(
                f"learner {self.spec.name!r}: kind {self.spec.kind!r} starts from a pretrained model; name a Hugging "
                "Face folder in train.start_from"
            )
        return self._tokenizer_from(self._folder.tokenizer, self._folder.weights.parent)

    def _stored_tokenizer(self, folder: Path) -> Tokenizer | None:
        self._encoder = _stored_config(folder)
        return self._tokenizer_from((folder / FILE).read_text(encoding="utf-8"), folder)

    def _tokenizer_from(self, text: str, folder: Path) -> Tokenizer:
        length = min(self.params.length, self._config.longest)
        return PretrainedTokenizer.of(text, self.spec.text, length, self._config, str(folder))

    @property
    def _config(self) -> EncoderConfig:
        if self._encoder is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        return self._encoder

    def _read_as(self, before: Network) -> None:
        assert isinstance(before, Transformer)
        super()._read_as(before)
        self._encoder = before._encoder

    def built(self, shapes: InputShapes, outputs: int | None = None) -> nn.Module:
        encoder, outputs = Encoder(self._config, self._where), self._outputs if outputs is None else outputs
        return PretrainedNetwork(encoder, len(self.spec.text), shapes, self.params.dropout, outputs)

    def _first_network(self) -> nn.Module:
        network = super()._first_network()
        if self._folder:
            _part(network).encoder.model.load_state_dict(weights_in(self._folder, self._where))
        return network

    def _part_to_train(
        self, network: nn.Module, rows: Inputs, unseen: tuple[Inputs, Labels] | None, progress: Progress
    ) -> tuple[nn.Module, Inputs, tuple[Inputs, Labels] | None]:
        """With a frozen encoder the head alone is trained, on rows whose texts are embedded once."""
        whole = _part(network)
        _choose_weights(whole.encoder, self.params, self._where)
        if not self.params.is_frozen:
            return network, rows, unseen
        whole.encoder.to(self._device()).eval()
        remembered = embeddings_of(self._config)
        show = partial(progress, f"embedding texts for {self.spec.name}")
        embedded = self._embedded(whole, rows, remembered, show)
        if unseen:
            unseen = self._embedded(whole, unseen[0], remembered, show), unseen[1]
        whole.encoder.to("cpu")
        return whole.head, embedded, unseen

    def _after_training(self, network: nn.Module) -> None:
        encoder = _part(network).encoder
        if self.params.lora:
            merge_adapters(encoder)
        network.requires_grad_(True).eval()
        if not self.params.is_frozen:
            weights = {name: weight.numpy() for name, weight in encoder.state_dict().items()}
            self._encoder = encoder.config = self._config.model_copy(update={"weights": canonical.digest(weights)})

    def _head_in(self, network: nn.Module) -> frozenset[str]:
        names = (name for name, _ in network.named_parameters())
        return frozenset(name for name in names if not name.startswith("encoder."))

    def _predictions(self, network: nn.Module, rows: Inputs) -> Floats:
        if not isinstance(network, PretrainedNetwork):
            return super()._predictions(network, rows)
        network.eval()
        remembered = embeddings_of(self._config) if network is self._network else None  # else it is being trained
        return super()._predictions(network.head, self._embedded(network, rows, remembered))

    def _embedded(
        self, network: PretrainedNetwork, rows: Inputs, remembered: Embeddings | None, show: Show | None = None
    ) -> Inputs:
        with torch.no_grad():
            most = rows_at_once(self.params.batch_rows, self.params.accumulate) * network.texts
            vectors = embed(network.encoder, network.texts_of(rows), remembered, most=most, show=show)
        return network.with_vectors(rows.to(vectors.device), vectors)

    def save(self, folder: Path) -> None:
        write_json(folder / ENCODER, self._config.to_json())
        super().save(folder)

    def _libraries(self) -> dict[str, str]:
        return {**super()._libraries(), "transformers": metadata.version("transformers")}


def _start_of(spec: Spec) -> tuple[Folder | None, EncoderConfig | None]:
    """The folder that a learner starts from, if it is a Hugging Face folder, and the encoder of its start."""
    if spec.start is None:
        return None, None
    if not spec.start.pretrained:  # a stored learner; `Network` says what is wrong with one of another kind
        return None, _stored_config(spec.start.folder) if (spec.start.folder / ENCODER).exists() else None
    folder = Folder.read(spec.start.folder)
    return folder, folder.config


def _stored_config(folder: Path) -> EncoderConfig:
    try:
        return EncoderConfig.model_validate_json((folder / ENCODER).read_bytes())
    except ValueError as error:
        raise RefitError(
            f"{folder / ENCODER} is damaged ({first_complaint(error)}); restore the folder, or train again"
        ) from None


def _part(network: nn.Module) -> PretrainedNetwork:
    assert isinstance(network, PretrainedNetwork)
    return network


def _choose_weights(encoder: Encoder, params: Params, where: str) -> None:
    """Mark the weights of an encoder that are trained, and its layers.

    Raises:
        UserError: it has fewer layers, or none that an adapter is for.
    """
    encoder.requires_grad_(params.tuned_layers == "all")
    layers = blocks_of(encoder)
    for layer in layers:
        layer.is_layer = True  # type: ignore[assignment]  # see `refit.learners.networks.transfer.layers_of`
    if params.lora:
        add_adapters(encoder, params.lora, where)
    elif params.tuned_layers != "all":
        if params.tuned_layers > len(layers):
            raise UserError(
                f"tuned_layers: the encoder has {len(layers)} layers; found {params.tuned_layers} "
                f"({where}.params.tuned_layers)"
            )
        for layer in layers[len(layers) - params.tuned_layers :]:
            layer.requires_grad_(True)
