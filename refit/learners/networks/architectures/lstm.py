"""Long short-term memory over the steps of a sequence (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

from __future__ import annotations

from torch import nn

from refit.learners.networks.architectures import gru
from refit.learners.networks.inputs import InputShapes

needs = gru.needs


class Params(gru.Params):
    """Arguments of kind `lstm`: those of `gru`."""


def build(params: Params, inputs: InputShapes, outputs: int) -> nn.Module:
    """The module with random weights.

    Raises:
        UserError: there is no sequence.
    """
    return gru.recurrent("lstm", nn.LSTM, params, inputs, outputs)
