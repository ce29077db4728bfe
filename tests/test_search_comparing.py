"""Comparing and classifying over HTTP, in our own shape and in that of Roboflow's inference, on a real sidecar and Triton."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from servers import http_files
from sidecars import PICTURES, Sidecar, base64_of

from clip_client import Clip

TEXTS = ["a cat", "a dog", "two red squares"]
LABELS = ["cat", "dog", "square"]
SENT = [base64_of(one) for one in PICTURES[:3]]


def ask(sidecar: Sidecar, path: str, body: Any) -> Any:
    status, content = sidecar.ask("POST", path, body)
    assert status == 200, content
    return content


def refused(sidecar: Sidecar, path: str, body: Any, status: int = 400) -> str:
    got, content = sidecar.ask("POST", path, body)
    assert got == status, content
    return str(content["message"])


# /v1/compare


def test_comparing_gives_what_the_sdk_gives(sidecar: Sidecar, clip: Clip) -> None:
    expected = clip.compare(PICTURES[:3], TEXTS)
    got = ask(sidecar, "/v1/compare", {"subject": SENT, "prompt": TEXTS})
    np.testing.assert_allclose(got["cosines"], expected.cosines, atol=1e-5)
    np.testing.assert_allclose(got["probabilities"], expected.probabilities, atol=1e-5)
    assert (got["errors"], got["fingerprint"], got["model"]) == ([], clip.spec.fingerprint, clip.spec.name)
    one = ask(sidecar, "/v1/compare", {"subject": f"data:image/jpeg;base64,{SENT[0]}", "prompt": "a cat"})
    np.testing.assert_allclose(one["cosines"], [[clip.compare(PICTURES[0], "a cat").cosines]], atol=1e-5)


def test_each_side_is_images_or_texts(sidecar: Sidecar, clip: Clip) -> None:
    for subject, prompt in (("text", "text"), ("text", "image"), ("image", "image")):
        sent, items = {"text": TEXTS, "image": SENT}, {"text": TEXTS, "image": PICTURES[:3]}
        body = {"subject": sent[subject], "prompt": sent[prompt], "subject_type": subject, "prompt_type": prompt}
        expected = clip.compare(items[subject], items[prompt], subject_type=subject, prompt_type=prompt)  # type: ignore[arg-type]
        np.testing.assert_allclose(ask(sidecar, "/v1/compare", body)["cosines"], expected.cosines, atol=1e-5)


def test_an_image_is_fetched_under_the_rules_of_searching(sidecar: Sidecar, clip: Clip) -> None:
    with http_files({"/a.jpg": PICTURES[0]}) as url:
        subject = [f"{url}/a.jpg", f"{url}/none.jpg", "http://192.168.99.99/a.jpg"]
        got = ask(sidecar, "/v1/compare", {"subject": subject, "prompt": TEXTS})
    np.testing.assert_allclose(got["cosines"][0], clip.compare(PICTURES[0], TEXTS).cosines, atol=1e-5)
    assert got["cosines"][1:] == [None, None]
    assert [(error["side"], error["index"]) for error in got["errors"]] == [("subject", 1), ("subject", 2)]
    assert "404" in got["errors"][0]["message"]
    assert "public" in got["errors"][1]["message"]


def test_a_bad_item_has_an_error_of_its_own(sidecar: Sidecar, clip: Clip) -> None:
    prompts = [SENT[0], "!", base64_of(b"not a picture"), SENT[1]]
    got = ask(sidecar, "/v1/compare", {"subject": TEXTS, "subject_type": "text", "prompt": prompts, "prompt_type": "image"})
    good = clip.compare(TEXTS, [PICTURES[0], PICTURES[1]], subject_type="text", prompt_type="image")
    table = np.array(got["probabilities"], float)  # None is nan
    np.testing.assert_allclose(table[:, [0, 3]], good.probabilities, atol=1e-5)
    assert np.isnan(table[:, [1, 2]]).all()
    assert [(error["side"], error["index"]) for error in got["errors"]] == [("prompt", 1), ("prompt", 2)]
    told = refused(sidecar, "/v1/compare", {"subject": ["AAAA", "BBBB"], "prompt": TEXTS})
    assert told.startswith("no subject of 2 can be embedded; subject 0: ")


def test_empty_sides_have_no_cosines(sidecar: Sidecar) -> None:
    assert ask(sidecar, "/v1/compare", {"subject": [], "prompt": TEXTS})["cosines"] == []
    assert ask(sidecar, "/v1/compare", {"subject": SENT, "prompt": []})["cosines"] == [[], [], []]


def test_comparing_has_bounds(sidecar: Sidecar) -> None:
    many = {"subject_type": "text", "subject": ["a"] * 2049, "prompt": "b"}
    assert "at most 2,048" in refused(sidecar, "/v1/compare", many, 413)
    pairs = {"subject_type": "text", "subject": ["a"] * 1000, "prompt": ["b"] * 251}
    assert "251,000 pairs: expected at most 250,000" in refused(sidecar, "/v1/compare", pairs, 413)
    urls = {"subject": ["http://127.0.0.1:1/a.jpg"] * 65, "prompt": "b"}
    assert "65 pictures are to be fetched: expected at most 64" in refused(sidecar, "/v1/compare", urls)
    long = {"subject_type": "text", "subject": ["a", "b" * 200_000], "prompt": "c"}
    assert "200,000 characters" in ask(sidecar, "/v1/compare", long)["errors"][0]["message"]
    assert "subject_type" in refused(sidecar, "/v1/compare", {"subject": "a", "prompt": "b", "subject_type": "sound"})
    assert "extra" in refused(sidecar, "/v1/compare", {"subject": "a", "prompt": "b", "templates": "c"}).lower()


# Roboflow's inference, as its documents have it


def image(value: str, kind: str = "base64") -> dict[str, str]:
    return {"type": kind, "value": value}


def test_roboflows_embeddings(sidecar: Sidecar, clip: Clip) -> None:
    with http_files({"/a.jpg": PICTURES[1]}) as url:
        body = {"image": [image(SENT[0]), image(f"{url}/a.jpg", "url")], "clip_version_id": "ViT-B-16", "api_key": "k"}
        several = ask(sidecar, "/clip/embed_image", body)
    np.testing.assert_allclose(several["embeddings"], clip.embed_image(PICTURES[:2]), atol=1e-5)
    assert several["time"] > 0
    one = ask(sidecar, "/clip/embed_image", {"image": image(SENT[0])})
    np.testing.assert_allclose(one["embeddings"], several["embeddings"][:1], atol=1e-5)
    for text in ("a cat", TEXTS):
        got = ask(sidecar, "/clip/embed_text", {"text": text})["embeddings"]
        np.testing.assert_allclose(got, np.atleast_2d(clip.embed_text(text)), atol=1e-5)


@pytest.mark.parametrize("kind", ["text", "list", "names"])
def test_roboflows_comparison(sidecar: Sidecar, clip: Clip, kind: str) -> None:
    prompts = {"text": "a cat", "list": TEXTS, "names": dict(zip("abc", TEXTS, strict=True))}
    got = ask(sidecar, "/clip/compare", {"subject": image(SENT[0]), "prompt": prompts[kind]})["similarity"]
    expected = clip.compare(PICTURES[0], TEXTS[:1] if kind == "text" else TEXTS).cosines
    assert list(got) == list("abc") if kind == "names" else True
    np.testing.assert_allclose([*got.values()] if kind == "names" else got, expected, atol=1e-5)


def test_roboflows_comparison_of_images(sidecar: Sidecar, clip: Clip) -> None:
    prompts = {"first": image(SENT[1]), "second": image(SENT[2])}
    body = {"subject": "a cat", "subject_type": "text", "prompt": prompts, "prompt_type": "image"}
    got = ask(sidecar, "/clip/compare", body)["similarity"]
    expected = clip.compare("a cat", PICTURES[1:3], subject_type="text", prompt_type="image").cosines
    np.testing.assert_allclose([got["first"], got["second"]], expected, atol=1e-5)
    body = {"subject": image(SENT[0]), "prompt": image(SENT[1]), "prompt_type": "image"}
    assert len(ask(sidecar, "/clip/compare", body)["similarity"]) == 1


def test_roboflows_routes_name_the_item_that_is_bad(sidecar: Sidecar) -> None:
    body = {"image": [image(SENT[0]), image(base64_of(b"none"))]}
    assert refused(sidecar, "/clip/embed_image", body).startswith("image 1 can't be embedded: ")
    assert "'base64' or 'url', got 'numpy'" in refused(sidecar, "/clip/embed_image", {"image": image("x", "numpy")})
    mixed = {"subject": image(SENT[0]), "prompt": [image(SENT[1])]}
    assert "prompt 0 is an image" in refused(sidecar, "/clip/compare", mixed)
    assert "prompt" in refused(sidecar, "/clip/compare", {"subject": image(SENT[0])})


def test_roboflows_empty_lists_are_answered_with_empty_ones(sidecar: Sidecar) -> None:
    assert ask(sidecar, "/clip/embed_text", {"text": []})["embeddings"] == []
    assert ask(sidecar, "/clip/embed_image", {"image": []})["embeddings"] == []
    for prompt, similarity in (([], []), ({}, {})):
        body = {"subject": image(SENT[0]), "prompt": prompt, "clip_version_id": 16}
        assert ask(sidecar, "/clip/compare", body)["similarity"] == similarity


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/compare", {"subject": None, "prompt": "a"}, "subject: Input should be a valid string, got 'None'"),
        ("/v1/compare", {"subject": ["AAAA", None], "prompt": "a"}, "subject.1: "),
        ("/v1/classify", {"images": "AAAA", "labels": LABELS, "templates": [5]}, "templates.0: "),
        ("/clip/embed_image", {"image": [{"type": "url", "value": "u"}, {"type": "url"}]}, "image.1.value: Field required"),
        ("/clip/embed_text", {"text": 5}, "text: "),
        ("/clip/compare", {"subject": "a", "prompt": ["a", 5]}, "prompt.1: "),
        ("/clip/compare", {"subject": "a", "prompt": {"one": "a", "text": {"type": "url", "value": 5}}}, "prompt.text.value: "),
        ("/v1/collections", {"name": "a", "columns": {"year": 5}}, "columns.year: "),
        ("/v1/queries", {"image": []}, "image: "),
        ("/v1/embeddings", {"model": "clip", "input": [[1]]}, "input: token numbers are another tokenizer's"),
        ("/v1/embeddings", {"model": "clip", "input": ""}, "input: there is nothing in it: expected a text"),
        ("/v1/embeddings", {"model": "clip", "input": []}, "input: there is nothing in it: expected a text"),
    ],
)
def test_a_fault_is_told_where_it_was_sent(sidecar: Sidecar, path: str, body: Any, message: str) -> None:
    """No name of pydantic's is in the way, such as that of the form of a field which it tried."""
    assert refused(sidecar, path, body).startswith(message)


def test_images_are_taken_as_other_programs_write_them(sidecar: Sidecar) -> None:
    lines = base64.encodebytes(PICTURES[0]).decode()  # with a line break behind every 76 characters
    upper = f"DATA:image/jpeg;BASE64,{SENT[0]}"
    got = ask(sidecar, "/v1/compare", {"subject": [SENT[0], lines, upper, f"{upper}\n"], "prompt": TEXTS})
    assert got["errors"] == []
    np.testing.assert_allclose(got["cosines"], [got["cosines"][0]] * 4, atol=1e-5)
    [one] = ask(sidecar, "/v1/embeddings", {"model": "clip", "input": upper, "encoding_format": "float"})["data"]
    expected = ask(sidecar, "/clip/embed_image", {"image": image(SENT[0])})["embeddings"][0]
    np.testing.assert_allclose(one["embedding"], expected, atol=1e-5)
    got = ask(sidecar, "/v1/compare", {"subject": [SENT[0], "file:///etc/passwd", "s3://b/a.jpg"], "prompt": TEXTS})
    assert ["isn't a URL that can be fetched" in error["message"] for error in got["errors"]] == [True, True]


# /v1/classify


@pytest.mark.parametrize("templates", [None, "a drawing of a {}.", "openai-imagenet-7", ["a {}", "two of {}"]])
def test_classifying_gives_what_the_sdk_gives(sidecar: Sidecar, clip: Clip, templates: Any) -> None:
    options = {} if templates is None else {"templates": templates}
    expected = clip.classify(PICTURES[:3], LABELS, **options)
    for _ in range(2):  # the second time with the labels' embeddings as they were kept
        got = ask(sidecar, "/v1/classify", {"images": SENT, "labels": LABELS, **options})
        assert [row["index"] for row in got["results"]] == [0, 1, 2]
        for row, best in zip(got["results"], expected.top(3), strict=True):
            assert [score["label"] for score in row["labels"]] == [label for label, _ in best]
            np.testing.assert_allclose([score["probability"] for score in row["labels"]], [p for _, p in best], atol=1e-5)
    assert (got["errors"], got["fingerprint"]) == ([], clip.spec.fingerprint)


def test_one_image_and_the_best_label(sidecar: Sidecar, clip: Clip) -> None:
    got = ask(sidecar, "/v1/classify", {"images": SENT[0], "labels": LABELS, "top": 1})
    [[score]] = [row["labels"] for row in got["results"]]
    assert score["label"] == clip.classify(PICTURES[0], LABELS).best
    assert ask(sidecar, "/v1/classify", {"images": [], "labels": LABELS})["results"] == []


def test_a_bad_image_leaves_the_others(sidecar: Sidecar) -> None:
    got = ask(sidecar, "/v1/classify", {"images": [SENT[0], "AAAA", SENT[1]], "labels": LABELS})
    assert [row["index"] for row in got["results"]] == [0, 2]
    assert [error["index"] for error in got["errors"]] == [1]
    assert "no image of 1" in refused(sidecar, "/v1/classify", {"images": "AAAA", "labels": LABELS})


@pytest.mark.parametrize(
    ("labels", "templates", "status", "message"),
    [
        ([], "a {}", 400, "there are no labels: pass at least one"),
        (["cat"], [], 400, "there are no templates: pass at least one"),
        (["cat", "cat"], "a {}", 400, "labels 0 and 1 are both 'cat'"),
        (["cat", " "], "a {}", 400, "label 1 is empty"),
        (["cat"], "a photo", 400, "expected one of openai-imagenet"),
        (["cat"], "a {} {x}", 400, "other braces"),
        ([str(n) for n in range(1001)], "a {}", 413, "labels is 1,001: expected at most 1,000"),
        ([str(n) for n in range(100)], "openai-imagenet", 413, "100 labels in 80 templates are 8,000 texts"),
    ],
)
def test_labels_and_templates_are_checked(
    sidecar: Sidecar, labels: list[str], templates: Any, status: int, message: str
) -> None:
    body = {"images": SENT[0], "labels": labels, "templates": templates}
    assert message in refused(sidecar, "/v1/classify", body, status)
