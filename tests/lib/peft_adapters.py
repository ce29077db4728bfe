"""LoRA adapters of a small CLIP, made and embedded by peft itself: ``python peft_adapters.py BASE FOLDER``.

peft changes transformers' loading wherever it can be imported, so that it is installed into a folder beside, and only this
process looks there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

REQUIREMENTS = ["peft==0.21.2", "accelerate==1.15.0"]
IDS = [[512, 320, 330, 340, 513], [512, 7, 513, 513, 513]]
Q_AND_V = {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 16}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": Q_AND_V,
    "rank-stabilized": {**Q_AND_V, "use_rslora": True},
    "dora": {**Q_AND_V, "use_dora": True},
    "ranks and alphas of their own": {
        **Q_AND_V,
        "rank_pattern": {"text_model.encoder.layers.0.self_attn.q_proj": 2, "vision_model.*v_proj": 3},
        "alpha_pattern": {"v_proj": 5, "layers.1.self_attn.q_proj": 9},
    },
    "whole modules": {**Q_AND_V, "modules_to_save": ["visual_projection", "final_layer_norm"]},
    "all biases": {**Q_AND_V, "bias": "all"},
    "biases of its layers": {**Q_AND_V, "bias": "lora_only"},
    "every linear layer": {"target_modules": "all-linear", "r": 2, "lora_alpha": 4},
    "a regular expression": {"target_modules": r".*text_model.*fc[12]", "r": 3, "lora_alpha": 3},
    "embedding and convolution": {"target_modules": ["token_embedding", "patch_embedding"], "r": 4, "lora_alpha": 8},
    "a convolution under dora": {"target_modules": ["patch_embedding"], "r": 4, "lora_alpha": 8, "use_dora": True},
    "a bias in the adapter": {**Q_AND_V, "lora_bias": True},
    "parts of one tower": {"target_modules": r"vision_model.*(k_proj|out_proj)", "r": 4, "lora_alpha": 1},
}


def made(base: Path, folder: Path) -> Path:
    """Run this file: a folder with an adapter for each variant and with ``expected.npz``."""
    run([__file__, str(base), str(folder)])
    return folder


def run(arguments: list[str]) -> str:
    """Run Python where peft can be imported; return what it prints."""
    packages = Path(sys.prefix) / f"peft-{REQUIREMENTS[0].partition('==')[2]}"
    with FileLock(f"{packages}.lock"):
        if not packages.exists():
            _install(packages)
    paths = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout


def _install(folder: Path) -> None:
    made = folder.with_name(f"{folder.name}.making")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(made), *REQUIREMENTS], check=True)
    made.rename(folder)


def _make(base: Path, folder: Path) -> None:
    import numpy as np
    import peft
    import torch
    from transformers import CLIPModel

    expected: dict[str, Any] = {}
    for number, (name, settings) in enumerate(VARIANTS.items()):
        torch.manual_seed(number)
        model = peft.get_peft_model(CLIPModel.from_pretrained(base), peft.LoraConfig(init_lora_weights=False, **settings))
        with torch.no_grad():
            for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        model.save_pretrained(folder / name)
        again = peft.PeftModel.from_pretrained(CLIPModel.from_pretrained(base), folder / name).eval()
        size = again.config.vision_config.image_size
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected[f"{name}/image"] = again.get_image_features(pixel_values=pixels).pooler_output.numpy()
            expected[f"{name}/text"] = again.get_text_features(input_ids=torch.tensor(IDS)).pooler_output.numpy()
        expected[f"{name}/pixels"] = pixels.numpy()
    np.savez(folder / "expected.npz", **expected)


if __name__ == "__main__":
    _make(Path(sys.argv[1]), Path(sys.argv[2]))
