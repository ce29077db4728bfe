"""Spellings of checkpoints: each has its meaning, or a message with the right spelling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import open_clips
import pytest

from clip_client import InvalidInput
from clip_export import cli
from clip_export.checkpoints import hub_addresses, known, open_clip_names
from clip_export.checkpoints.names import File, Folder, HubId, OpenClipName, meaning

B32, B32_LAION = "openai/clip-vit-base-patch32", "laion2b_s34b_b79k"
PULL_REQUEST = "refs/pr/66"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


HUB_IDS = {
    "openai/clip-vit-base-patch32": HubId(B32, None),
    "openai/clip-vit-base-patch32/": HubId(B32, None),
    "openai//clip-vit-base-patch32": HubId(B32, None),
    " openai/clip-vit-base-patch32\n": HubId(B32, None),
    "'openai/clip-vit-base-patch32'": HubId(B32, None),
    "“openai/clip-vit-base-patch32”": HubId(B32, None),
    "openai/clip‑vit‑base‑patch32": HubId(B32, None),
    "openai/clip-vit-base-patch32\u200b": HubId(B32, None),
    "OpenAI/CLIP-ViT-Base-Patch32": HubId(B32, None),
    "openai/clip_vit_base_patch32": HubId(B32, None),
    "openai/clip-vit-base-patch32@main": HubId(B32, "main"),
    "openai/clip-vit-base-patch32@refs/pr/66": HubId(B32, PULL_REQUEST),
    "openai/clip-vit-base-patch32@refs%2Fpr%2F66": HubId(B32, PULL_REQUEST),
    "openai/clip-vit-base-patch32@pr/66": HubId(B32, PULL_REQUEST),
    "openai/clip-vit-base-patch32@3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268": HubId(
        B32, "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    ),
    "hf:openai/clip-vit-base-patch32": HubId(B32, None),
    "hf://openai/clip-vit-base-patch32": HubId(B32, None),
    "HF:openai/clip-vit-base-patch32": HubId(B32, None),
    "hf://openai/clip-vit-base-patch32@refs/pr/66/model.safetensors": HubId(B32, PULL_REQUEST, file="model.safetensors"),
    "hf-hub:openai/clip-vit-base-patch32": HubId(B32, None),
    "hf_hub:openai/clip-vit-base-patch32@main": HubId(B32, "main"),
    "hf_clip:openai/clip-vit-base-patch32": HubId(B32, None),
    "hf-clip: openai/clip-vit-base-patch32": HubId(B32, None),
    "hf:hf-hub:openai/clip-vit-base-patch32": HubId(B32, None),
    "hf:clip-vit-base-patch32": HubId(B32, None),
    "hf:ViT-B/32": HubId(B32, None),
    "hf:https://huggingface.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "open_clip:hf-hub:timm/ViT-B-16-SigLIP": HubId("timm/ViT-B-16-SigLIP", None, open_clip=True),
    "open_clip:hf:timm/ViT-B-16-SigLIP@main": HubId("timm/ViT-B-16-SigLIP", "main", open_clip=True),
    "open_clip:https://huggingface.co/timm/ViT-B-16-SigLIP": HubId("timm/ViT-B-16-SigLIP", None, open_clip=True),
    "open_clip:laion/CLIP-ViT-B-32-laion2B-s34B-b79K": HubId("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None, open_clip=True),
    "https://huggingface.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "https://huggingface.co/openai/clip-vit-base-patch32/": HubId(B32, None),
    "http://www.huggingface.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "https:/huggingface.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "HTTPS://HuggingFace.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "huggingface.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "hf.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "https://hf.co/openai/clip-vit-base-patch32.git": HubId(B32, None),
    "https://hf-mirror.com/openai/clip-vit-base-patch32": HubId(B32, None),
    "git@hf.co:openai/clip-vit-base-patch32": HubId(B32, None),
    "ssh://git@hf.co/openai/clip-vit-base-patch32.git": HubId(B32, None),
    "https://somebody:secret@huggingface.co/openai/clip-vit-base-patch32": HubId(B32, None),
    "https://huggingface.co/openai/clip-vit-base-patch32?library=transformers": HubId(B32, None),
    "https://huggingface.co/openai/clip-vit-base-patch32#usage": HubId(B32, None),
    "https://huggingface.co/openai/clip-vit-base-patch32/tree/main": HubId(B32, "main"),
    "https://huggingface.co/openai/clip-vit-base-patch32/tree/refs%2Fpr%2F66": HubId(B32, PULL_REQUEST),
    "https://huggingface.co/openai/clip-vit-base-patch32/tree/refs/pr/66": HubId(B32, PULL_REQUEST),
    "https://huggingface.co/openai/clip-vit-base-patch32/discussions/66": HubId(B32, PULL_REQUEST),
    "https://huggingface.co/openai/clip-vit-base-patch32/discussions/66/files": HubId(B32, PULL_REQUEST),
    "https://huggingface.co/openai/clip-vit-base-patch32/discussions": HubId(B32, None),
    "https://huggingface.co/openai/clip-vit-base-patch32/commit/3d74acf": HubId(B32, "3d74acf"),
    "https://huggingface.co/openai/clip-vit-base-patch32/blob/main/config.json": HubId(B32, "main", file="config.json"),
    "https://huggingface.co/openai/clip-vit-base-patch32/resolve/main/pytorch_model.bin?download=true": HubId(
        B32, "main", file="pytorch_model.bin"
    ),
    "https://huggingface.co/openai/clip-vit-base-patch32/resolve/refs%2Fpr%2F66/a/b.bin": HubId(
        B32, PULL_REQUEST, file="a/b.bin"
    ),
    "https://huggingface.co/api/models/openai/clip-vit-base-patch32/revision/main": HubId(B32, "main"),
    "https://huggingface.co/clip-vit-base-patch32": HubId(B32, None),
    "openai/clip-vit-base-patch32/tree/main": HubId(B32, "main"),
    "models--openai--clip-vit-base-patch32": HubId(B32, None),
    "somebody/new-CLIP.v2_x": HubId("somebody/new-CLIP.v2_x", None),
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": HubId("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None),
    "timm/vit_base_patch32_clip_224.openai": HubId("timm/vit_base_patch32_clip_224.openai", None),
}

WITHOUT_OWNER = {
    "clip-vit-base-patch32": HubId(B32, None),
    "clip-vit-base-patch32@main": HubId(B32, "main"),
    "CLIP-ViT-Large-Patch14-336": HubId("openai/clip-vit-large-patch14-336", None),
    "siglip-base-patch16-224": HubId("google/siglip-base-patch16-224", None),
    "siglip2_so400m_patch14_384": HubId("google/siglip2-so400m-patch14-384", None),
    "SigLIP-B/16-256": HubId("google/siglip-base-patch16-256", None),
    "SigLIP ViT-B/16": HubId("google/siglip-base-patch16-224", None),
    "SigLIP So400m/14 384": HubId("google/siglip-so400m-patch14-384", None),
    "SigLIP2-so400m": HubId("google/siglip2-so400m-patch14-384", None),
    "SigLIP 2 L/16@512px": HubId("google/siglip2-large-patch16-512", None),
    "google/siglip2-b/16": HubId("google/siglip2-base-patch16-224", None),
    "clip-ViT-B-32": HubId("sentence-transformers/clip-ViT-B-32", None),
    "clip-ViT-L-14": HubId("sentence-transformers/clip-ViT-L-14", None),
    "clip-ViT-B-32-multilingual-v1": HubId("sentence-transformers/clip-ViT-B-32-multilingual-v1", None),
    "sentence-transformers/clip-ViT-B-32": HubId("sentence-transformers/clip-ViT-B-32", None),
    "M-CLIP/XLM-Roberta-Large-Vit-B-32": HubId("M-CLIP/XLM-Roberta-Large-Vit-B-32", None),
    "m-clip/xlm-roberta-large-vit-b-32": HubId("M-CLIP/XLM-Roberta-Large-Vit-B-32", None),
    "XLM-Roberta-Large-Vit-L-14": HubId("M-CLIP/XLM-Roberta-Large-Vit-L-14", None),
    "XLM-R Large Vit-B/16+": HubId("M-CLIP/XLM-Roberta-Large-Vit-B-16Plus", None),
    "LABSE-Vit-L-14": HubId("M-CLIP/LABSE-Vit-L-14", None),
    "Swe-CLIP-2M": HubId("M-CLIP/Swedish-2M", None),
    "jina-clip-v2": HubId("jinaai/jina-clip-v2", None),
    "fashion-clip": HubId("patrickjohncyh/fashion-clip", None),
    "AltCLIP": HubId("BAAI/AltCLIP", None),
    "MobileCLIP-S1-OpenCLIP": HubId("apple/MobileCLIP-S1-OpenCLIP", None),
    "CLIP-ViT-B-32-laion2B-s34B-b79K": HubId("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None),
    "vit_base_patch32_clip_224.openai": HubId("timm/vit_base_patch32_clip_224.openai", None),
}

OPENAI = {
    "ViT-B/32": HubId(B32, None),
    "ViT-B-32": HubId(B32, None),
    "vit-b-32": HubId(B32, None),
    "ViT_B_32": HubId(B32, None),
    "ViT-B32": HubId(B32, None),
    "ViT-B/16": HubId("openai/clip-vit-base-patch16", None),
    "ViT-L/14": HubId("openai/clip-vit-large-patch14", None),
    "ViT-L/14@336px": HubId("openai/clip-vit-large-patch14-336", None),
    "ViT-L-14-336px": HubId("openai/clip-vit-large-patch14-336", None),
    "ViT-L/14-336": HubId("openai/clip-vit-large-patch14-336", None),
    "clip/ViT-B-16": HubId("openai/clip-vit-base-patch16", None),
    "clip/ViT-L-14-336px": HubId("openai/clip-vit-large-patch14-336", None),
    "openai/ViT-B/32": HubId(B32, None),
    "openai:ViT-B-32": HubId(B32, None),
    "CLIP ViT-B/32": HubId(B32, None),
    "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt": HubId(
        B32, None
    ),
    "RN50": OpenClipName("RN50-quickgelu", "openai"),
    "rn50": OpenClipName("RN50-quickgelu", "openai"),
    "RN101": OpenClipName("RN101-quickgelu", "openai"),
    "RN50x4": OpenClipName("RN50x4-quickgelu", "openai"),
    "RN50x64": OpenClipName("RN50x64-quickgelu", "openai"),
    "clip/RN50x16": OpenClipName("RN50x16-quickgelu", "openai"),
}

OPEN_CLIP = {
    "ViT-B-32/laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B-32:laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B-32, laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B-32 laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B-32::laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B-32__laion2b-s34b-b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B-32-laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-B/32/laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "vit_b_32/LAION2B-S34B-B79K": OpenClipName("ViT-B-32", B32_LAION),
    "laion2b_s34b_b79k/ViT-B-32": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip:ViT-B-32/laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip: ViT-B/32, laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "OpenCLIP:ViT-B-32:laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip:ViT-B-32/laion2b_s34b_b79k@main": OpenClipName("ViT-B-32", B32_LAION, "main"),
    "open_clip/ViT-B-32/laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip:ViT-B-32": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip:ViT-B/32": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip:RN50": OpenClipName("RN50-quickgelu", "openai"),
    "ViT-H-14": OpenClipName("ViT-H-14", "laion2b_s32b_b79k"),
    "ViT-B-32-quickgelu": OpenClipName("ViT-B-32-quickgelu", "openai"),
    "ViT-B/32-quickgelu": OpenClipName("ViT-B-32-quickgelu", "openai"),
    "ViT-B-32-quickgelu/openai": OpenClipName("ViT-B-32-quickgelu", "openai"),
    "ViT-B-32/openai": OpenClipName("ViT-B-32-quickgelu", "openai"),
    "open_clip:ViT-B/32/openai": OpenClipName("ViT-B-32-quickgelu", "openai"),
    "ViT-B-32-quickgelu/laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "ViT-H-14/metaclip_altogether": OpenClipName("ViT-H-14", "metaclip_altogether"),
    "ViT-H-14-378/dfn5b": OpenClipName("ViT-H-14-378-quickgelu", "dfn5b"),
    "roberta-ViT-B-32/laion2b_s12b_b32k": OpenClipName("roberta-ViT-B-32", "laion2b_s12b_b32k"),
    "ViT-g-14": OpenClipName("ViT-g-14", "laion2b_s34b_b88k"),
    "vit-g/14": OpenClipName("ViT-g-14", "laion2b_s34b_b88k"),
    "ViT-G-14": OpenClipName("ViT-bigG-14", "laion2b_s39b_b160k"),
    "ViT-G/14": OpenClipName("ViT-bigG-14", "laion2b_s39b_b160k"),
    "ViT-bigG-14": OpenClipName("ViT-bigG-14", "laion2b_s39b_b160k"),
    "ViT-B-16-SigLIP": OpenClipName("ViT-B-16-SigLIP", "webli"),
    "ViT-B/16-SigLIP@384": OpenClipName("ViT-B-16-SigLIP-384", "webli"),
    "MobileCLIP-S2": OpenClipName("MobileCLIP-S2", "datacompdr"),
    "mobileclip_s1": OpenClipName("MobileCLIP-S1", "datacompdr"),
    "MobileCLIP S1": OpenClipName("MobileCLIP-S1", "datacompdr"),
    "mobileclip_blt": OpenClipName("MobileCLIP-B", "datacompdr_lt"),
    "MobileCLIP2-L/14": OpenClipName("MobileCLIP2-L-14", "dfndr2b"),
    "PE-Core-B16-224": OpenClipName("PE-Core-B-16", "meta"),
    "PE-Core-L14-336": OpenClipName("PE-Core-L-14-336", "meta"),
    "EVA02-CLIP-B-16": OpenClipName("EVA02-B-16", "merged2b_s8b_b131k"),
    "EVA02-CLIP-bigE-14-plus": OpenClipName("EVA02-E-14-plus", "laion2b_s9b_b144k"),
    "convnext_base_w/laion2b_s13b_b82k_augreg": OpenClipName("convnext_base_w", "laion2b_s13b_b82k_augreg"),
    "ViT-SO400M-14-SigLIP-384__webli": OpenClipName("ViT-SO400M-14-SigLIP-384", "webli"),
}


@pytest.mark.parametrize(("model", "meant"), (HUB_IDS | WITHOUT_OWNER | OPENAI | OPEN_CLIP).items(), ids=str)
def test_a_spelling_has_its_meaning(model: str, meant: HubId | OpenClipName) -> None:
    assert meaning(model) == meant


NOTES = {
    "openai/clip-vit-base-patch32": "",
    "somebody/clip": "",
    "ViT-B-32/laion2b_s34b_b79k": "",
    "OpenAI/clip-vit-base-patch32": "OpenAI/clip-vit-base-patch32 is openai/clip-vit-base-patch32 on the hub",
    "siglip-base-patch16-224": "siglip-base-patch16-224 is google/siglip-base-patch16-224 on the hub",
    "SigLIP-B/16": "SigLIP-B/16 is taken as google/siglip-base-patch16-224 on the hub",
    "ViT-B-32": "ViT-B-32 is taken as OpenAI's weights, openai/clip-vit-base-patch32 on the hub; open_clip has others, as "
    "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "RN50": "RN50 is taken as OpenAI's weights, open_clip:RN50-quickgelu/openai",
    "ViT-H-14": "ViT-H-14 alone is taken as its best-known weights, open_clip:ViT-H-14/laion2b_s32b_b79k; others: "
    "metaclip_fullcc, metaclip_altogether, dfn5b",
    "open_clip:RN101": "RN101 alone is taken as its best-known weights, open_clip:RN101-quickgelu/openai (openai was trained with "
    "QuickGELU, so its model is RN101-quickgelu); others: yfcc15m",
    "ViT-B-32/openai": "openai was trained with QuickGELU, so its model is ViT-B-32-quickgelu",
    "ViT-B-32-quickgelu/laion2b_e16": "laion2b_e16 was trained without QuickGELU, so its model is ViT-B-32",
    "https://huggingface.co/somebody/clip/blob/main/a.bin": "the address leads to a.bin; the checkpoint is all of somebody/clip",
}


@pytest.mark.parametrize(("model", "note"), NOTES.items(), ids=str)
def test_a_meaning_that_was_not_typed_is_said(model: str, note: str) -> None:
    assert meaning(model).note == note
