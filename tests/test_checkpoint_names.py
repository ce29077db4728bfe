"""Spellings of checkpoints: each has its meaning, or a message with the right spelling."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from amount import amount

from clip_client import InvalidInput
from clip_export.checkpoints.names import File, Folder, HubId, OpenClipName, meaning

B32, B32_LAION = "openai/clip-vit-base-patch32", "laion2b_s34b_b79k"
PULL_REQUEST = "refs/pr/66"
CASES = amount(300, 5000)
SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"


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
    "hf.co/openai/clip-vit-base-patch32@main": HubId(B32, "main"),
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
    "https://huggingface.co/openai/clip-vit-base-patch32/blob/main/config.json": HubId(B32, "main"),
    "https://huggingface.co/openai/clip-vit-base-patch32/resolve/main/pytorch_model.bin?download=true": HubId(
        B32, "main", file="pytorch_model.bin"
    ),
    "https://huggingface.co/openai/clip-vit-base-patch32/resolve/refs%2Fpr%2F66/a/b.bin": HubId(
        B32, PULL_REQUEST, file="a/b.bin"
    ),
    "https://huggingface.co/openai/clip-vit-base-patch32/tree/main/0_CLIPModel": HubId(B32, "main", file="0_CLIPModel"),
    "openai/clip-vit-base-patch32/model.safetensors": HubId(B32, None, file="model.safetensors"),
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
    "siglip2-base-patch32": HubId("google/siglip2-base-patch32-256", None),
    "SigLIP2 so400m/16 naflex": HubId("google/siglip2-so400m-patch16-naflex", None),
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
    "CN-CLIP/ViT-B-16": HubId("OFA-Sys/chinese-clip-vit-base-patch16", None),
    "Chinese-CLIP ViT-L/14@336px": HubId("OFA-Sys/chinese-clip-vit-large-patch14-336px", None),
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
    "ViT-B/32@pr/66": HubId(B32, PULL_REQUEST),
    "ViT-B/16": HubId("openai/clip-vit-base-patch16", None),
    "ViT-L/14": HubId("openai/clip-vit-large-patch14", None),
    "ViT-L/14@336px": HubId("openai/clip-vit-large-patch14-336", None),
    "ViT-L/14@336px@main": HubId("openai/clip-vit-large-patch14-336", "main"),
    "ViT-L-14-336px": HubId("openai/clip-vit-large-patch14-336", None),
    "ViT-L/14-336": HubId("openai/clip-vit-large-patch14-336", None),
    "clip/ViT-B-16": HubId("openai/clip-vit-base-patch16", None),
    "clip/ViT-L-14-336px": HubId("openai/clip-vit-large-patch14-336", None),
    "openai/ViT-B/32": HubId(B32, None),
    "openai:ViT-B-32": HubId(B32, None),
    "CLIP ViT-B/32": HubId(B32, None),
    f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-B-32.pt": HubId(B32, None),
    f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-L-14-336px.pt": HubId(
        "openai/clip-vit-large-patch14-336", None
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
    "ViT-B-32@laion2b_s34b_b79k": OpenClipName("ViT-B-32", B32_LAION),
    "open_clip:ViT-B-32@main": OpenClipName("ViT-B-32", B32_LAION, "main"),
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
    "MobileCLIP-B (LT)": OpenClipName("MobileCLIP-B", "datacompdr_lt"),
    "'ViT-B-32', pretrained='laion2b_s34b_b79k'": OpenClipName("ViT-B-32", B32_LAION),
    "XLM-Roberta-Large-Vit-H-14__frozen_laion5b_s13b_b90k": OpenClipName(
        "xlm-roberta-large-ViT-H-14", "frozen_laion5b_s13b_b90k"
    ),
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
    "open_clip:RN101": "RN101 alone is taken as its best-known weights, open_clip:RN101-quickgelu/openai (openai was trained "
    "with QuickGELU, so its model is RN101-quickgelu); others: yfcc15m",
    "ViT-B-32/openai": "openai was trained with QuickGELU, so its model is ViT-B-32-quickgelu",
    "ViT-B-32-quickgelu/laion2b_e16": "laion2b_e16 was trained without QuickGELU, so its model is ViT-B-32",
    "https://huggingface.co/somebody/clip/blob/main/a.bin": "a.bin of somebody/clip is taken, not its other weights",
}


@pytest.mark.parametrize(("model", "note"), NOTES.items(), ids=str)
def test_a_meaning_that_was_not_typed_is_said(model: str, note: str) -> None:
    assert meaning(model).note == note


EXPECTED = "expected a folder, a hub id such as openai/clip-vit-base-patch32, or open_clip:MODEL/TAG"
REFUSED = {
    "": f"the name of the checkpoint is empty: {EXPECTED}",
    " \n": f"the name of the checkpoint is empty: {EXPECTED}",
    "''": f"the name of the checkpoint is empty: {EXPECTED}",
    "x" * 10_000: f"the name of the checkpoint has 10,000 characters, '{'x' * 200}'…: {EXPECTED}",
    "openai/clip\nvit": f"the name of the checkpoint has line breaks or control characters, 'openai/clip\\nvit': {EXPECTED}",
    "open\x00ai": f"the name of the checkpoint has line breaks or control characters, 'open\\x00ai': {EXPECTED}",
    "~no\x00body/x": "the name of the checkpoint has line breaks or control characters, '~no\\x00body/x': ",
    "open\ud800ai": "the name of the checkpoint has line breaks or control characters, 'open\\ud800ai': ",
    "\x1b[31mred": f"the name of the checkpoint has line breaks or control characters, '\\x1b[31mred': {EXPECTED}",
    "./nowhere": f"no checkpoint folder ./nowhere: {EXPECTED}",
    "../nowhere": f"no checkpoint folder ../nowhere: {EXPECTED}",
    "~/nowhere": f"no checkpoint folder ~/nowhere: {EXPECTED}",
    "~nobody-here/x": f"no checkpoint folder ~nobody-here/x: {EXPECTED}",
    "/no/such/folder": f"no checkpoint folder /no/such/folder: {EXPECTED}",
    "/openai/ViT-B-32": "no checkpoint folder /openai/ViT-B-32: ",
    "a/b/c": f"no checkpoint folder a/b/c: {EXPECTED}",
    "./openai/clip-vit-base-patch32": "; the nearest names: openai/clip-vit-base-patch32",
    "openai/clip vit base patch32": "; the nearest names: openai/clip-vit-base-patch32",
    "nowhere.safetensors": f"no file nowhere.safetensors: {EXPECTED}",
    "ViT-B-32/none.pt": "no file none.pt: expected open_clip:ViT-B-32/ and a safetensors file, or one of open_clip's tags",
    r"C:\models\clip": r"is a path of Windows, and isn't here: write it with /, as '/mnt/c/models/clip'",
    r"models\clip": "is a path of Windows, and isn't here: write it with /, as 'models/clip'",
    "openai/..": "openai/.. can't be a hub id",
    f"openai/{'x' * 200}": "can't be a hub id: expected ORG/NAME of letters, digits, '-', '_' and '.'",
    "openai/🦆": "can't be a hub id",
    "openai/clip-vit-base-patch32:main": "a revision follows @, openai/clip-vit-base-patch32@main",
    "openai/clip-vit-base-patch32@": "the revision '' can't be one: expected a branch, a tag, a commit, or refs/pr/NUMBER",
    "openai/clip-vit-base-patch32@a..b": "the revision 'a..b' can't be one",
    "@main": "no checkpoint folder @main",
    "clip-vit-base-patch3": "no known checkpoint has that name: .* the nearest names: openai/clip-vit-base-patch32",
    "siglip": "the nearest names: google/siglip-base-patch16-224",
    "RN51": "the nearest names: open_clip:RN50",
    "MobileCLIP-S0": "the nearest names: open_clip:MobileCLIP2-S0, open_clip:MobileCLIP-S2, open_clip:MobileCLIP-S1",
    "laion2b_s34b_b79k": "the nearest names: laion/CLIP-ViT-B-32-laion2B-s34B-b79K, open_clip:ViT-B-32/laion2b_s34b_b79k",
    "ViT-B-3/laion2b_e16": "names: open_clip:ViT-B-32/laion2b_e16, .*; if it is a hub id, pass hf:ViT-B-3/laion2b_e16",
    "ViT-B/33": "neither open_clip nor this folder has ViT-B/33; the nearest names: open_clip:ViT-B-32",
    "siglip-b/17": "neither open_clip nor this folder has siglip-b/17; the nearest names: open_clip:ViT-B-16-SigLIP",
    "open_clip:ViT-B-3/laion2b_e16": "open_clip has no model 'ViT-B-3', nor is there a folder ViT-B-3/laion2b_e16; the nearest "
    "are: ViT-B-32, ViT-S-32, ViT-M-32; a hub id is open_clip:hf-hub:ORG/NAME",
    "ViT-B-32/nobody": "open_clip has no weights 'nobody' of ViT-B-32: expected one of openai, .*, or a safetensors file",
    "ViT-B-32/laion2b": "; the nearest: laion2b_e16, laion2b_s34b_b79k",
    "ViT-B-32/laion2b_s34b_b88k": "; laion2b_s34b_b88k is one of ViT-B-16, ViT-g-14",
    "ViT-B-16-plus": "open_clip has no weights of ViT-B-16-plus: expected a file of them, open_clip:ViT-B-16-plus/FILE; the "
    "nearest models with weights: ViT-B-16-plus-240",
    "open_clip:": "nothing is behind 'open_clip:': expected",
    "hf://": "nothing is behind 'hf://': expected",
    "open_clip:hf-hub:": "nothing is behind 'hf-hub:': expected",
    "https://": "expected https://huggingface.co/ORG/NAME",
    "https://huggingface.co/": "that page of the hub isn't a model's: expected https://huggingface.co/ORG/NAME",
    "https://huggingface.co/openai": "the nearest names: openai/clip-vit-base-patch32",
    "https://huggingface.co/datasets/openai/some": "datasets/openai/some is a data set of the hub: expected a model",
    "spaces/openai/some": "spaces/openai/some is a space of the hub: expected a model",
    "hf://datasets/openai/some/file.bin": "is a data set of the hub: expected a model",
    "https://github.com/openai/CLIP": "the host github.com isn't a hub of models: expected https://huggingface.co/ORG/NAME",
    "https://[": "that URL can't be read",
    "https://huggingface.co:high/a/b": "that URL can't be read",
    "https://huggingface.co/a/b/tree/%0a": "the revision '\\n' can't be one",
    "https://huggingface.co/a%00/b": "can't be a hub id",
    "file:///no/such/folder": "no checkpoint folder /no/such/folder",
    "local-dir:nowhere": "no checkpoint folder nowhere",
    "/dev/null": "/dev/null is neither a folder nor a file",
    "/etc/hostname": "the file /etc/hostname isn't a checkpoint: expected a folder, or a file that ends in .safetensors, .bin",
}


@pytest.mark.parametrize(("model", "message"), REFUSED.items(), ids=lambda text: ascii(text[:40]))
def test_a_name_without_a_meaning_has_one_clear_line(model: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        meaning(model)
    pattern = re.escape(message).replace(r"\.\*", ".*")
    assert re.search(pattern, str(refused.value))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1200


def test_the_password_of_a_url_is_not_repeated() -> None:
    for url in ("https://me:secret@example.com/a/b", "https://me:secret@huggingface.co/a/..", "https://me:secret@hf.co/a/b c"):
        with pytest.raises(InvalidInput) as refused:
            meaning(url)
        assert "secret" not in str(refused.value)


def test_urls_of_the_hub_in_hf_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:8123")
    assert meaning("http://127.0.0.1:8123/openai/clip-vit-base-patch32/tree/main") == HubId(B32, "main")
    with pytest.raises(InvalidInput, match=r"the host 127\.0\.0\.1 isn't a hub"):
        meaning("http://127.0.0.1:8124/openai/clip-vit-base-patch32")


@pytest.mark.parametrize("revision", ["main", " main ", "main\n"])
@pytest.mark.parametrize("model", ["openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32@main", "ViT-B/32"])
def test_a_revision_in_the_name_may_be_repeated(model: str, revision: str) -> None:
    assert meaning(model, revision) == HubId(B32, "main")


def test_revisions_reach_open_clips_names() -> None:
    assert meaning("ViT-B-32/laion2b_e16", "pr/3") == OpenClipName("ViT-B-32", "laion2b_e16", "refs/pr/3")
    assert meaning("RN50", "main") == OpenClipName("RN50-quickgelu", "openai", "main")


@pytest.mark.parametrize(
    "model",
    [
        "openai/clip-vit-base-patch32@refs/pr/66",
        "hf://openai/clip-vit-base-patch32@refs/pr/66",
        "https://huggingface.co/openai/clip-vit-base-patch32/tree/refs%2Fpr%2F66",
        "ViT-B-32/laion2b_s34b_b79k@pr/66",
        "ViT-B/32@pr/66",
    ],
)
def test_two_revisions_are_refused(model: str) -> None:
    with pytest.raises(
        InvalidInput, match="the name says revision refs/pr/66, and --revision says main: leave one of them out"
    ):
        meaning(model, "main")


@pytest.mark.parametrize("revision", ["", " ", "a b", "a\x00b", "../main", "-" * 3 + "~1", "a:b", "main@{1}"])
def test_a_revision_that_git_does_not_allow(revision: str) -> None:
    with pytest.raises(InvalidInput, match="can't be one: expected a branch, a tag, a commit"):
        meaning("openai/clip-vit-base-patch32", revision)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the name of a hub id, which has a checkpoint."""
    made = tmp_path / "openai" / "clip-vit-base-patch32"
    made.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "other.safetensors", "model-00001-of-00002.safetensors", "notes.txt"):
        (made / name).touch()
    return made


SPELLED = [
    "{0}",
    "{0}/",
    "{0}//",
    " {0} ",
    "'{0}'",
    "file:{0}",
    "file://{0}",
    "local-dir:{0}",
    "open_clip:local-dir:{0}",
    "{0}/../clip-vit-base-patch32",
]


@pytest.mark.parametrize("spelling", SPELLED)
def test_a_folder(spelling: str, folder: Path) -> None:
    meant = meaning(spelling.format(folder))
    assert isinstance(meant, Folder)
    assert meant.path.samefile(folder)
    assert meant.open_clip == spelling.startswith("open_clip")


@pytest.mark.parametrize(
    "spelling", ["openai/clip-vit-base-patch32", "./openai/clip-vit-base-patch32", "~/openai/clip-vit-base-patch32"]
)
def test_a_folder_here_goes_before_the_hub(spelling: str, folder: Path) -> None:
    meant = meaning(spelling)
    assert isinstance(meant, Folder)
    assert meant.path.samefile(folder)


def test_a_folder_with_a_well_known_name_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "RN50").mkdir()
    (tmp_path / "mine").mkdir()
    assert meaning("openai/clip-vit-base-patch32").note == (
        "the folder openai/clip-vit-base-patch32 here is exported; the hub's is hf:openai/clip-vit-base-patch32"
    )
    assert meaning("RN50").note == "the folder RN50 here is exported, not open_clip's model"
    assert meaning("mine").note == ""
    assert meaning("hf:openai/clip-vit-base-patch32") == HubId(B32, None)


@pytest.mark.parametrize(
    "name", ["a model", "modèle", "ｆｕｌｌ", "ViT‑B", "'quoted'", "new\nline", "ends with space ", "C:\\models", "a@b", "100%"]
)
def test_a_folder_of_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert meaning(name) == Folder(Path(name))


def test_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ViT-B-32.pt").touch()
    assert meaning(f"{folder}/other.safetensors") == File(folder / "other.safetensors", None)
    assert meaning("ViT-B-32.pt") == File(Path("ViT-B-32.pt"), None)
    assert meaning("./ViT-B-32.pt") == File(Path("ViT-B-32.pt"), None)
    assert meaning("open_clip:ViT-B-32.pt") == File(Path("ViT-B-32.pt"), None)
    for model in (
        "open_clip:ViT-B-32/ViT-B-32.pt",
        "ViT-B-32/ViT-B-32.pt",
        "open_clip:ViT-B/32/./ViT-B-32.pt",
        "ViT-B-32:ViT-B-32.pt",
    ):
        assert meaning(model) == File(Path("ViT-B-32.pt"), "ViT-B-32")
    assert meaning(f"open_clip:vit_b_32/{folder}/other.safetensors") == File(folder / "other.safetensors", "ViT-B-32")


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".bin", ".pth", ".ckpt", ".PT"])
def test_endings_of_weights(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"mine{ending}").touch()
    assert meaning(f"mine{ending}") == File(Path(f"mine{ending}"), None)


def test_the_weights_of_a_folder_are_the_folder(folder: Path) -> None:
    meant = meaning(f"{folder}/model.safetensors")
    assert meant == Folder(folder)
    assert meant.note == f"{folder}/model.safetensors is the weights of a checkpoint: its folder {folder} is exported"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "isn't a checkpoint: pass its folder, {0}"),
        ("notes.txt", "isn't a checkpoint: pass its folder, {0}"),
        ("model-00001-of-00002.safetensors", "is a part of the weights: pass its folder, {0}"),
        ("modell.safetensors", "no file {0}/modell.safetensors: .*; beside it lies {0}/model.safetensors"),
        ("../clip-vit-base-patch3", "no checkpoint folder .*; beside it lies {0}/../clip-vit-base-patch32"),
    ],
)
def test_files_that_are_no_checkpoint(name: str, message: str, folder: Path) -> None:
    with pytest.raises(InvalidInput, match=message.format(folder)):
        meaning(f"{folder}/{name}")


def test_a_repository_in_the_hubs_cache(tmp_path: Path) -> None:
    cached = tmp_path / "models--openai--clip-vit-base-patch32"
    for commit in ("aaa", "bbb"):
        (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("bbb")
    meant = meaning(str(cached))
    assert meant == Folder(cached / "snapshots" / "bbb")
    assert meant.note == "models--openai--clip-vit-base-patch32 is of the hub's cache: its snapshot bbb is taken"


@pytest.mark.parametrize("model", ["openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32/other.safetensors"])
def test_what_is_here_has_no_revisions(model: str, folder: Path) -> None:
    with pytest.raises(
        InvalidInput, match=rf"--revision main is for checkpoints on the hub, {model} is a (folder|file): leave it out"
    ):
        meaning(model, "main")


def test_a_folder_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> None:
        raise PermissionError

    monkeypatch.setattr("clip_export.checkpoints.local_paths.os.stat", denied)
    with pytest.raises(InvalidInput, match=r"\./mine can't be looked into: check its permissions"):
        meaning("./mine")
    assert meaning("openai/clip-vit-base-patch32") == HubId(B32, None)


CHARACTERS = "/:@-_ ,.~#?%[]{}()'\"\\\n\x00é🦆0Aa|$*+=<>&;\u200b\u2011"
PIECES = [
    "/tree/main",
    "@main",
    "hf:",
    "open_clip:",
    "https://",
    "..",
    "//",
    "datasets/",
    "models--",
    "refs/pr/",
    "openai",
    "::",
]


def mutated(text: str, others: list[str], draw: random.Random) -> str:
    for _ in range(draw.randint(1, 4)):
        at, other = draw.randrange(len(text) + 1), draw.choice(others)
        text = draw.choice(
            [
                text[:at] + draw.choice(CHARACTERS) + text[at:],
                text[:at] + text[at + 1 :],
                text[:at] + other[draw.randrange(len(other) + 1) :],
                text.swapcase(),
                text[:at] + draw.choice(PIECES) + text[at:],
            ]
        )
    return text


def test_any_text_has_a_meaning_or_one_clear_line() -> None:
    spellings = [text for text in (*HUB_IDS, *WITHOUT_OWNER, *OPENAI, *OPEN_CLIP, *REFUSED) if len(text) < 500]
    draw, refused = random.Random(19), 0
    for _ in range(CASES):
        text = mutated(draw.choice(spellings), spellings, draw)
        try:
            said = meaning(text).note
        except InvalidInput as problem:
            said, refused = str(problem), refused + 1
        assert said.isprintable(), text
        assert len(said) < 1600, text
    assert 0 < refused < CASES
