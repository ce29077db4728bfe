"""Protocols of others: clip-retrieval's routes and its own client, OpenAI's embeddings, curl, Prometheus, OpenAPI."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import openai
import pytest
import transformers
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image
from servers import CLIPSERVE, free_ports, http_files
from sidecars import PICTURES, Sidecar, base64_of

from clip_client import Clip, ModelSpec
from clip_client.search import Row, Search


@pytest.fixture(scope="module")
def clip_retrieval():
    """The module of clip-retrieval's client, from the package as it is published."""
    path = Path(sys.prefix) / "lib" / "clip-retrieval" / "clip_retrieval" / "clip_client.py"
    spec = importlib.util.spec_from_file_location("clip_retrieval_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_clip_retrievals_own_client(
    sidecar: Sidecar, search: Search, photos: str, clip_retrieval, clip: Clip, tmp_path: Path
) -> None:
    client = clip_retrieval.ClipClient(url=f"{sidecar.url}/knn-service", indice_name=photos, num_images=5, deduplicate=False)
    vectors = clip.embed_image(PICTURES)
    scores = vectors @ clip.embed_text("a cat")
    best = np.argsort(-scores)[:5]
    hits = client.query(text="a cat")
    assert [hit["id"] for hit in hits] == best.tolist()
    np.testing.assert_allclose([hit["similarity"] for hit in hits], scores[best], atol=1e-4)
    assert hits[0] == {**hits[0], "caption": f"picture {best[0]}", "url": f"http://x/{best[0]}"}
    (tmp_path / "query.jpg").write_bytes(PICTURES[3])
    assert client.query(image=str(tmp_path / "query.jpg"))[0]["id"] == 3
    assert client.query(embedding_input=vectors[4].tolist())[0]["id"] == 4
    with http_files({"/a.jpg": PICTURES[6]}) as files:
        assert client.query(image=f"{files}/a.jpg")[0]["id"] == 6
    default = clip_retrieval.ClipClient(url=f"{sidecar.url}/knn-service", indice_name=photos)
    assert 1 <= len(default.query(text="a cat")) <= 12


def knn(**changes: object) -> dict[str, object]:
    return {"text": "a cat", "modality": "image", "num_images": 2, "indice_name": "photos", **changes}


def test_the_knn_service_gives_metadata_to_the_first_and_numbers_to_all(sidecar: Sidecar, search: Search, photos: str) -> None:
    status, hits = sidecar.ask("POST", "/knn-service", knn(num_result_ids=6), **{"Content-Type": "text/plain"})
    assert status == 200
    whole = {"id", "similarity", "caption", "url", "image_path", "image"}
    assert [set(hit) for hit in hits] == [whole] * 2 + [{"id", "similarity"}] * 4
    assert sidecar.ask("POST", "/metadata", {"ids": [3, 99], "indice_name": "photos"})[1] == [
        {"id": 3, "metadata": {"caption": "picture 3", "url": "http://x/3", "image_path": "s3"}}
    ]
    assert sidecar.ask("POST", "/metadata", {"ids": [], "indice_name": "photos"})[1] == []
    assert sidecar.ask("GET", "/indices-list")[1] == ["photos"]
    config = sidecar.ask("GET", "/config.json")[1]
    assert config["defaultIndex"] == "photos"
    assert config["urlColumn"] == "url"
    assert "safety" in config["notice"]


def test_a_picture_by_its_path_comes_with_the_hit(sidecar: Sidecar, search: Search) -> None:
    search.create("paths")
    inside, outside = sidecar.data.parent / "pictures" / "a.jpg", sidecar.data.parent / "secret.jpg"
    search.add(
        "paths", [Row(id=path.name, image=PICTURES[0], metadata={"image_path": str(path)}) for path in (inside, outside)]
    )
    search.drop("paths")
    search.create("paths", dimension=4)
    rows = [
        Row(id=path.name, vector=[1, 0, 0, n], metadata={"image_path": str(path)}) for n, path in enumerate((inside, outside))
    ]
    search.add("paths", rows)
    hits = sidecar.ask("POST", "/knn-service", knn(text=None, embedding_input=[1, 0, 0, 0], indice_name="paths"))[1]
    assert base64.b64decode(hits[0]["image"])[:3] == b"\xff\xd8\xff"
    assert "image" not in hits[1]


def test_a_folder_that_was_added_is_shown_by_clip_retrievals_client(
    sidecar: Sidecar, search: Search, clip_retrieval, clip: Clip, tmp_path: Path
) -> None:
    for n in range(3):
        (tmp_path / f"{n}.jpg").write_bytes(PICTURES[n])
    (tmp_path / "1.txt").write_text("the second")
    added = [CLIPSERVE, "search", "add", tmp_path, "--url", sidecar.url, "--collection", "folder"]
    subprocess.run(added, check=True, capture_output=True, timeout=60)
    client = clip_retrieval.ClipClient(url=f"{sidecar.url}/knn-service", indice_name="folder", num_images=3, deduplicate=False)
    hits = {Path(hit["image_path"]).name: hit for hit in client.query(text="a cat")}
    assert set(hits) == {"0.jpg", "1.jpg", "2.jpg"}
    assert [hits[f"{n}.jpg"].get("caption") for n in range(3)] == [None, "the second", None]
    for n in range(3):
        hit = hits[f"{n}.jpg"]
        assert hit["image_path"] == str((tmp_path / f"{n}.jpg").resolve())
        shown = Image.open(io.BytesIO(base64.b64decode(hit["image"], validate=True)))
        assert (shown.format, max(shown.size)) == ("JPEG", 320)
        assert clip.embed_image(shown) @ clip.embed_image(PICTURES[n]) > 0.95
        assert "url" not in hit
    assert client.query(image=str(tmp_path / "2.jpg"))[0]["image_path"].endswith("2.jpg")


def test_rows_added_over_http_are_shown_by_clip_retrievals_client(sidecar: Sidecar, search: Search, clip_retrieval) -> None:
    search.create("mixed")
    with http_files({"/a.jpg": PICTURES[2]}) as files:
        rows = [
            Row(id="text", text="a cat on a mat"),
            Row(id="image", image=PICTURES[0]),
            Row(id="url", image_url=f"{files}/a.jpg"),
            Row(id="both", image=PICTURES[1], text="a dog", metadata={"url": "http://x/1", "image_path": "own"}, source="s"),
        ]
        assert search.add("mixed", rows).added == 4
    numbers = {row["id"]: row["row"] for row in search.get("mixed", [row.id for row in rows])}
    client = clip_retrieval.ClipClient(url=f"{sidecar.url}/knn-service", indice_name="mixed", num_images=4, deduplicate=False)
    hits = {hit["id"]: hit for hit in client.query(text="a cat")}
    assert set(hits) == {numbers["image"], numbers["url"], numbers["both"]}
    assert set(hits[numbers["image"]]) == {"id", "similarity", "image"}
    assert hits[numbers["url"]] == {**hits[numbers["url"]], "url": f"{files}/a.jpg"}
    assert "image_path" not in hits[numbers["url"]]
    both = hits[numbers["both"]]
    assert (both["url"], both["image_path"], both["caption"]) == ("http://x/1", "own", "a dog")
    texts = sidecar.ask("POST", "/knn-service", knn(modality="text", indice_name="mixed", num_images=4))[1]
    assert {hit["id"]: hit.get("caption") for hit in texts} == {numbers["text"]: "a cat on a mat", numbers["both"]: "a dog"}
    assert "image" not in next(hit for hit in texts if hit["id"] == numbers["text"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"text": "a"}, 400, "modality: Field required"),
        (knn(indice_name="none"), 404, "no collection none"),
        (knn(num_images=0), 400, "num_images"),
        (knn(num_images=10**9), 413, "expected at most 10,000"),
        (knn(text=""), 400, "nothing to look for: send text, image"),
        (knn(text=None, image="%%"), 400, "isn't base64"),
        (knn(text=None, embedding_input=[1.0]), 400, "has shape"),
        (b"{", 400, "Invalid JSON"),
    ],
)
def test_the_knn_service_tells_what_is_wrong(
    sidecar: Sidecar, search: Search, photos: str, body: object, status: int, message: str
) -> None:
    got, answer = sidecar.ask("POST", "/knn-service", body)
    assert (got, bool(re.search(message, answer["message"]))) == (status, True), answer


def test_metrics_have_clip_retrievals_names(sidecar: Sidecar, search: Search, photos: str) -> None:
    sidecar.ask("POST", "/knn-service", knn())
    text = sidecar.ask("GET", "/metrics")[1].decode()
    for name in ("full_knn_request_time", "text_clip_inference_time", "knn_index_time", "image_prepro_time", "safety_time"):
        assert all(f"{name}_{part}" in text for part in ("bucket", "count", "sum"))
    assert 'clipserve_collection_rows{collection="photos",tower="image"} 12.0' in text
    assert 'clipserve_collection_recall{collection="photos",tower="image"} 1.0' in text
    assert re.search(r'clipserve_requests_total\{route="/knn-service",status="200"\} \d', text)
    summary = sidecar.ask("GET", "/metrics-summary")[1].decode()
    assert re.match(
        r"Among \d+ calls to the knn end point with an average latency of \d\.\d{4}s per request, the step", summary
    )
    assert re.search(r"full_knn_request_time .* \d+ +\d\.\d{4}s +100\.0%", summary)


def test_openais_client(sidecar: Sidecar, clip: Clip) -> None:
    client = openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="none")
    image = f"data:image/jpeg;base64,{base64_of(PICTURES[0])}"
    made = client.embeddings.create(model="clip", input=["a cat", image, "a dog"])
    np.testing.assert_allclose(made.data[0].embedding, clip.embed_text("a cat"), atol=1e-6)
    np.testing.assert_allclose(made.data[1].embedding, clip.embed_image(PICTURES[0]), atol=1e-6)
    plain = client.embeddings.create(model="clip", input="a dog", encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, made.data[2].embedding, atol=1e-6)
    assert client.models.list().data[0].id == "clip"
    for wrong in (
        {"input": [[1, 2]]},
        {"input": []},
        {"input": ""},
        {"input": "a", "dimensions": 7},
        {"input": "data:image/png;base64,AAAA"},
    ):
        with pytest.raises(openai.BadRequestError, match=r"input|dimensions|embedded"):
            client.embeddings.create(model="clip", **wrong)


def embedded(sidecar: Sidecar, **body: object) -> tuple[int, dict]:
    return sidecar.ask("POST", "/v1/embeddings", {"model": "clip", **body})


def test_modality_says_what_an_input_is_as_infinity_has_it(sidecar: Sidecar, clip: Clip) -> None:
    data = f"data:image/jpeg;base64,{base64_of(PICTURES[0])}"
    with http_files({"/a.jpg": PICTURES[1], "/page": b"<html>"}) as files:
        url = f"{files}/a.jpg"
        client = openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="none")
        made = client.embeddings.create(model="clip", input=[url, data], extra_body={"modality": "image"})
        np.testing.assert_allclose([one.embedding for one in made.data], clip.embed_image(PICTURES[1::-1]), atol=1e-6)
        for modality in ({}, {"modality": "text"}, {"modality": None}):
            plain = client.embeddings.create(model="clip", input=[url], extra_body=modality)
            np.testing.assert_allclose(plain.data[0].embedding, clip.embed_text(url), atol=1e-6)
        as_text = client.embeddings.create(model="clip", input=data[:60], extra_body={"modality": "text"})
        np.testing.assert_allclose(as_text.data[0].embedding, clip.embed_text(data[:60]), atol=1e-6)
        for bad, message in (
            (f"{files}/none.jpg", "answers 404"),
            (f"{files}/page", "not a picture"),
            (f"{files}/to/http://10.0.0.1/", "isn't a public address"),
            ("http://169.254.169.254/latest", "isn't a public address"),
            ("file:///etc/passwd", "isn't a URL"),
            ("a cat", "isn't a URL"),
            ("data:image/png;base64,%%%", "isn't base64"),
            (f"http://127.0.0.1:{free_ports(1)[0]}/a.jpg", "can't be reached"),
            ("http://127.0.0.1:9/a.jpg", "is named with port 9"),
            ("http://nobody.invalid/a.jpg", "has no address"),
        ):
            status, answer = embedded(sidecar, input=[data, url, bad, data], modality="image")
            assert (status, answer["message"].startswith("input 2 can't be embedded: ")) == (400, True), answer
            assert message in answer["message"]
            assert list(answer["error"]["errors"]) == ["2"]
    for wrong, message in (
        ({"modality": "audio"}, "modality: Input should be 'text' or 'image'"),
        ({"modality": "image", "input": ["http://x/"] * 65}, "65 pictures are to be fetched: expected at most 64"),
        ({"modality": 1}, "modality"),
    ):
        status, answer = embedded(sidecar, **{"input": "a", **wrong})
        assert (status, message in answer["message"]) == (400, True), answer


def test_many_data_uris_are_embedded_in_their_order(sidecar: Sidecar, clip: Clip) -> None:
    order = [n % 12 for n in range(37)]
    inputs = [f"data:;base64,{base64_of(PICTURES[n])}" for n in order]
    inputs[20] = "a cat"
    made = embedded(sidecar, input=inputs)[1]
    expected = clip.embed_image([PICTURES[n] for n in order])
    expected[20] = clip.embed_text("a cat")
    np.testing.assert_allclose([one["embedding"] for one in made["data"]], expected, atol=1e-6)
    assert made["usage"]["total_tokens"] == clip.count_tokens(["a cat"])[0]


def test_usage_counts_the_tokens_that_the_checkpoints_own_tokenizer_makes(
    sidecar: Sidecar, clip: Clip, checkpoint: Path, spec: ModelSpec
) -> None:
    own = transformers.AutoTokenizer.from_pretrained(checkpoint)
    texts = ["a cat", "", "A photo of a dog, at night.", "ünï 🦆", "word " * 500, "x"] * 12
    counts = [len(own(text, truncation=True, max_length=spec.context_length)["input_ids"]) for text in texts]
    assert clip.count_tokens(texts) == counts
    assert embedded(sidecar, input=texts)[1]["usage"] == {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    image = f"data:image/jpeg;base64,{base64_of(PICTURES[0])}"
    assert embedded(sidecar, input=image)[1]["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": [[1, 2], [3]]}, "token numbers are another tokenizer's"),
        ({"input": [1, 2]}, "token numbers are another tokenizer's"),
        ({"input": "a", "dimensions": 7}, r"dimensions is 7, the model makes \d+"),
        ({"input": "a", "dimensions": 0}, "dimensions is 0"),
        ({"input": "a", "dimensions": -1}, "dimensions is -1"),
        ({"input": "a", "dimensions": 1.5}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format: Input should be 'float' or 'base64'"),
        ({"input": ["a", "b" * 200_000]}, "input 1 can't be embedded: .*at most 131,072"),
        ({"input": ["a", "data:image/png;base64,AAAA", "b"]}, "input 1 can't be embedded"),
        ({"input": ["a", "data:image/png,AAAA", "b"]}, "input 1 can't be embedded: .*isn't base64"),
        ({"input": {"a": 1}}, "input"),
        ({"input": [None]}, "input"),
        ({"input": None}, "input"),
        ({"input": [True]}, "input"),
    ],
)
def test_embeddings_that_cant_be_given_are_refused(sidecar: Sidecar, body: dict, message: str) -> None:
    status, answer = embedded(sidecar, **body)
    assert (status, bool(re.search(message, answer["message"]))) == (400, True), answer


def test_more_inputs_than_openai_takes_are_too_many(sidecar: Sidecar) -> None:
    status, answer = embedded(sidecar, input=["a"] * 2049)
    assert (status, answer["message"]) == (413, "input is 2,049: expected at most 2,048")


def test_the_dimensions_that_there_are_may_be_asked_for(sidecar: Sidecar, spec: ModelSpec) -> None:
    status, made = embedded(sidecar, input="a", dimensions=spec.embedding_size, user="me")
    assert (status, len(made["data"][0]["embedding"])) == (200, spec.embedding_size)


def test_curl_gets_embeddings(sidecar: Sidecar, clip: Clip) -> None:
    body = json.dumps({"model": "clip", "input": ["a cat", f"data:image/jpeg;base64,{base64_of(PICTURES[0])}"]})
    where = [f"{sidecar.url}/v1/embeddings", "--header", "Content-Type: application/json"]
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "30", *where, "--data-binary", "@-"]
    made = json.loads(subprocess.run(command, input=body, capture_output=True, text=True, check=True).stdout)["data"]
    assert [one["index"] for one in made] == [0, 1]
    np.testing.assert_allclose(made[0]["embedding"], clip.embed_text("a cat"), atol=1e-6)
    np.testing.assert_allclose(made[1]["embedding"], clip.embed_image(PICTURES[0]), atol=1e-6)


def test_openapi_describes_the_bodies(sidecar: Sidecar) -> None:
    paths = sidecar.ask("GET", "/openapi.json")[1]["paths"]
    schema = paths["/v1/collections/{name}/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"text", "mix", "minus", "filter", "k"} <= set(schema["properties"])


def references(part: object) -> Iterator[str]:
    """All that a part of a JSON document refers to."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part if isinstance(part, list) else ()):
        if name == "$ref":
            yield value
        yield from references(value)


def test_every_reference_of_openapi_resolves(sidecar: Sidecar) -> None:
    document = sidecar.ask("GET", "/openapi.json")[1]
    assert {"#/components/schemas/NewItem", "#/components/schemas/SearchTerm"} <= set(references(document))
    for reference in references(document):
        place, *names = reference.split("/")
        assert place == "#"
        reduce(getitem, names, document)
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
