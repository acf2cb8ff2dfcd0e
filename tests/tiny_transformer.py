"""A Hugging Face folder with a tiny transformer of random weights, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = (
    *("excellent", "pleasure", "broken", "waste", "disappointing", "better", "worse"),
    "fine",
    "great",
    "lovely",
    "poor",
    "awful",
    "dull",
    "a",
    *(f"w{n}" for n in range(60)),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SMALL: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32},
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
}


def write_folder(folder: Path, model_type: str = "bert", *, pooling: str | None = "mean", seed: int = 0) -> Path:
    """Write a folder as `save_pretrained` and sentence-transformers do."""
    import transformers
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    sizes = SMALL.get(model_type, SMALL["bert"])
    settings = {**sizes, "vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 40, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(model_type, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.MODEL_MAPPING[type(config)](config)
        with torch.no_grad():  # so that words differ as much as in a trained one
            model.get_input_embeddings().weight.normal_()
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **settings, "transformers_version": "5"}))
    (folder / "tokenizer.json").write_text(_tokenizer())
    if pooling:
        kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    return folder


def _tokenizer() -> str:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    model = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    model.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    model.enable_padding(length=40)  # as published ones may have; ours is without
    return str(model.to_str())
