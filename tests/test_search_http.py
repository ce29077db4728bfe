"""The HTTP API on a real uvicorn and a real Triton: what is asked for is given, what is wrong is told, nothing is a 500."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import sidecars
from servers import Server, http_files
from sidecars import PICTURES, Sidecar, base64_of

from clip_client import (
    Clip,
    Conflict,
    ContractMismatch,
    InvalidInput,
    ModelSpec,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from clip_client.search import Row, Search, Term
from clip_search.embedder import Embedder
from clip_search.index.tuning_queries import TuningQueries
from pictures import bomb, encoded, picture


def ids(hits: list) -> list[str]:
    return [hit.id for hit in hits]


def test_searches_by_every_kind_of_term(search: Search, photos: str, clip: Clip) -> None:
    vectors, text = clip.embed_image(PICTURES), clip.embed_text("a cat")
    by_text = [f"p{n}" for n in np.argsort(-(vectors @ text))]
    assert ids(search.query(photos, "a cat", k=12)) == by_text
    assert ids(search.query(photos, Term(image=PICTURES[3]), k=1)) == ["p3"]
    assert ids(search.query(photos, Term(vector=vectors[4]), k=1)) == ["p4"]
    alike = [f"p{n}" for n in np.argsort(-(vectors @ vectors[5])) if n != 5]
    assert ids(search.query(photos, Term(id="p5"), k=3)) == alike[:3]
    mix = vectors[1] * 2 + text - 0.5 * vectors[2]
    terms = [Term(image=PICTURES[1], weight=2), Term(text="a cat")]
    assert ids(search.query(photos, terms, minus=[Term(id="p2", weight=0.5)], k=11)) == [
        f"p{n}" for n in np.argsort(-(vectors @ mix)) if n != 2
    ]


def test_scores_are_cosines_and_pages_follow_each_other(search: Search, photos: str, clip: Clip) -> None:
    whole = search.query(photos, "a cat", k=12)
    expected = np.sort(clip.embed_image(PICTURES) @ clip.embed_text("a cat"))[::-1]
    np.testing.assert_allclose([hit.score for hit in whole], expected, atol=1e-4)
    assert ids(search.query(photos, "a cat", k=5, offset=5)) == ids(whole)[5:10]
    between = (whole[3].score + whole[4].score) / 2
    assert ids(search.query(photos, "a cat", k=12, threshold=between)) == ids(whole)[:4]
    assert whole[0].metadata["caption"].startswith("picture")
    assert whole[0].source == whole[0].id.replace("p", "s")


def test_errors_reach_python_as_the_sidecar_meant_them(search: Search, photos: str) -> None:
    with pytest.raises(NotFound, match="no collection nowhere"):
        search.stats("nowhere")
    with pytest.raises(NotFound, match="no row"):
        search.query(photos, Term(id="nobody"))
    with pytest.raises(Conflict, match=photos):
        search.create(photos)
    with pytest.raises(Conflict, match="p3"):
        search.add(photos, [Row(id="p3", image=PICTURES[3])])
    with pytest.raises(TooLarge, match="200,000"):
        search.query(photos, "a cat", k=200_000)


def test_filters_and_duplicates(search: Search, photos: str) -> None:
    assert set(ids(search.query(photos, "a cat", k=12, where="year >= 2003 AND caption != 'picture 7'"))) == {
        f"p{n}" for n in (3, 4, 5, 6, 8, 9, 10, 11)
    }
    search.add(photos, [Row(id="again", image=PICTURES[3])])
    twice = search.query(photos, Term(image=PICTURES[3]), k=2)
    once = search.query(photos, Term(image=PICTURES[3]), k=2, deduplicate=0.9999)
    assert set(ids(twice)) == {"p3", "again"}
    assert len({"p3", "again"} & set(ids(once))) == 1


def test_rows_come_back_as_they_went(search: Search, photos: str, clip: Clip, spec: ModelSpec) -> None:
    (row,) = search.get(photos, ["p4", "not there"], vectors=True)
    assert row["metadata"] == {"caption": "picture 4", "url": "http://x/4", "year": 2004}
    assert row["fingerprint"] == spec.fingerprint
    np.testing.assert_allclose(row["vector_image"], clip.embed_image(PICTURES[4]), atol=1e-6)
    assert [row["id"] for row in search.rows(photos, where="year < 2009", page=4)] == [f"p{n}" for n in range(9)]
    assert search.delete(photos, ["p4"]) == 1
    assert search.delete(photos, where="year > 2009") == 2
    assert search.get(photos, ["p4"]) == []
    stats = search.stats(photos)
    assert (stats["rows"], stats["fingerprint"]) == (9, spec.fingerprint)
    assert search.rebuild(photos, wait=True)["indexes"]["image"]["rows"] == 9


def test_texts_are_rows_too_and_the_only_side_is_searched(search: Search, clip: Clip) -> None:
    search.create("notes")
    texts = ["a cat", "a dog", "the sea at night"]
    search.add("notes", [Row(id=text, text=text) for text in texts])
    (hit,) = search.query("notes", "a dog", k=1)
    assert (hit.id, hit.metadata["caption"]) == ("a dog", "a dog")
    assert hit.score == pytest.approx(1, abs=1e-4)
    picture_first = np.argmax(clip.embed_text(texts) @ clip.embed_image(PICTURES[0]))
    assert ids(search.query("notes", Term(image=PICTURES[0]), k=1, modality="text")) == [texts[picture_first]]
    assert search.query("notes", "a dog", modality="image") == []


def test_a_bad_file_stays_out_alone(search: Search, photos: str) -> None:
    outcome = search.add(
        photos, [Row(id="good", image=PICTURES[0]), Row(id="bad", image=b"no picture"), Row(id="bomb", image=bomb())]
    )
    assert (outcome.added, outcome.ids) == (1, ["good"])
    assert "not a picture" in outcome.errors[1]
    assert "15000 x 15000 pixels" in outcome.errors[2]
    with pytest.raises(InvalidInput, match=r"none of 1 rows can be added; row 0: .*not a picture") as caught:
        search.add(photos, [Row(id="bad", image=b"no picture")])
    assert 0 in caught.value.errors


def test_thumbnails_are_of_rows_and_of_nothing_else(sidecar: Sidecar, search: Search, photos: str) -> None:
    hit = search.query(photos, "a cat", k=1)[0]
    status, small = sidecar.ask("GET", hit.thumbnail)
    assert (status, small[:3]) == (200, b"\xff\xd8\xff")
    for path in ("/v1/collections/photos/thumbnails/99999", "/page/../cli.py", "/page/%2e%2e%2fcli.py", "/etc/passwd"):
        assert sidecar.ask("GET", path)[0] == 404
    search.add(photos, [Row(id="secret", vector=np.ones(search.stats(photos)["dimension"]), source="/etc/hostname")])
    row = search.get(photos, ["secret"])[0]["row"]
    assert sidecar.ask("GET", f"/v1/collections/photos/thumbnails/{row}")[0] == 404


def test_paths_are_read_below_the_folders_named_at_start(sidecar: Sidecar, search: Search, photos: str) -> None:
    inside = sidecar.data.parent / "pictures" / "a.jpg"
    assert search.add(photos, [Row(id="by path", image_path=str(inside))]).added == 1
    outside = [
        "/etc/passwd",
        str(sidecar.data.parent / "secret.jpg"),
        str(inside.with_name("link.jpg")),
        f"{inside}/../../secret.jpg",
    ]
    for path in outside:
        with pytest.raises(InvalidInput, match="is outside the folders that this sidecar reads"):
            search.add(photos, [Row(image_path=path)])


def test_urls_are_fetched_once_their_address_is_allowed(search: Search, photos: str) -> None:
    with http_files({"/a.jpg": PICTURES[6]}) as files:
        assert ids(search.query(photos, Term(image_url=f"{files}/a.jpg"), k=1)) == ["p6"]
        for path, message in (("/none.jpg", "answers 404"), ("/loop", "redirects more than 3 times")):
            with pytest.raises(InvalidInput, match=message):
                search.query(photos, Term(image_url=files + path))
    for url in ("http://127.0.0.2/", "http://[::1]/", "http://169.254.169.254/latest", "http://10.0.0.1/", "http://0.0.0.0/"):
        with pytest.raises(InvalidInput, match="isn't a public address"):
            search.query(photos, Term(image_url=url))


def test_indexes_are_tuned_on_what_people_asked_then_on_plain_texts(server: Server, clip: Clip, spec: ModelSpec) -> None:
    embedder = Embedder(server.address, spec.name, cached=0)
    queries = TuningQueries(embedder)
    plain, source = queries.sample(8, spec.fingerprint, spec.embedding_size)
    assert (len(plain), source) == (8, "texts")
    asked = clip.embed_text(["a cat", "a dog", "a cow", "a hen"])
    for vector in asked:
        queries.asked(vector)
    sampled, source = queries.sample(8, spec.fingerprint, spec.embedding_size)
    assert source == "asked"
    np.testing.assert_array_equal(sampled, np.concatenate([asked, plain[:4]]))
    assert queries.sample(8, "another model", spec.embedding_size)[1] == "vectors"
    embedder.close()


def test_concurrent_texts_are_each_answered_with_their_own(search: Search, photos: str, clip: Clip) -> None:
    texts = [f"a photo of {n}" for n in range(60)]
    vectors = clip.embed_image(PICTURES)
    expected = {text: f"p{np.argmax(vectors @ clip.embed_text(text))}" for text in texts}
    got: dict[str, str] = {}
    threads = [threading.Thread(target=lambda t=t: got.update({t: search.query(photos, t, k=1)[0].id})) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def cosines(hits: list) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


@pytest.mark.parametrize("weight", [1e-320, 1e-300, 1e-30, 0.1, 7, 1e30, 1e100, 1.7e308])
def test_only_the_ratios_of_weights_count(search: Search, photos: str, clip: Clip, weight: float) -> None:
    expected = cosines(search.query(photos, [Term(text="a cat"), Term(text="a dog")], minus=[Term(id="p2")], k=12))
    mix = [Term(text="a cat", weight=weight), Term(text="a dog", weight=weight)]
    scores = cosines(search.query(photos, mix, minus=[Term(id="p2", weight=weight)], k=12))
    assert scores == pytest.approx(expected, abs=1e-5)
    assert all(-1 <= score <= 1 for score in scores.values())


def test_weights_far_apart_leave_the_larger_and_scores_stay_cosines(search: Search, photos: str) -> None:
    alone = cosines(search.query(photos, "a cat", k=12))
    for large, small in ((1e100, 1), (1, 1e-100), (1.7e308, -1.7e-308), (5, 0.0), (5, -0.0)):
        mix = [Term(text="a cat", weight=large), Term(id="p3", weight=small)]
        scores = cosines(search.query(photos, mix, k=11))
        assert scores == pytest.approx({id: alone[id] for id in scores}, abs=1e-5)
    away = cosines(search.query(photos, [Term(text="a cat", weight=-1e100)], k=12))
    assert away == pytest.approx({id: -score for id, score in alone.items()}, abs=1e-5)
    for weight in (0.0, -0.0):
        with pytest.raises(InvalidInput, match="cancel each other out"):
            search.query(photos, [Term(text="a cat", weight=weight)])
    with pytest.raises(InvalidInput, match="cancel each other out"):
        search.query(photos, [Term(text="a cat", weight=1e100)], minus=[Term(text="a cat", weight=1e100)])


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "9" * 400, '"1"', "null", "true", "[1]"])
@pytest.mark.parametrize("place", ["weight", "threshold", "deduplicate"])
def test_numbers_that_are_none_are_refused(sidecar: Sidecar, search: Search, photos: str, place: str, number: str) -> None:
    fields = {"weight": f'"mix": [{{"text": "a", "weight": {number}}}]', "threshold": f'"text": "a", "threshold": {number}'}
    body = f"{{{fields.get(place, f'{chr(34)}text{chr(34)}: {chr(34)}a{chr(34)}, {chr(34)}deduplicate{chr(34)}: {number}')}}}"
    status, answer = sidecar.ask("POST", "/v1/collections/photos/search", body.encode())
    allowed = {("threshold", "null"), ("deduplicate", "true")}
    assert status == (200 if (place, number) in allowed else 400), answer


V = [1.0, 0.0]
BAD_SEARCHES = [
    ({}, "nothing to look for"),
    (b"", "Input should be an object"),
    (b"not json", "Invalid JSON"),
    (b'{"text": "\\ud800"}', "surrogate|Invalid JSON"),
    (b"[" * 100_000, "recursion|Invalid JSON"),
    ([], "Input should be an object"),
    ({"text": 5}, "text: Input should be a valid string, got '5'"),
    ({"text": "x" * 200_000}, "text: String should have at most 131072 characters"),
    ({"text": "a", "k": 0}, "k: Input should be greater than or equal to 1, got '0'"),
    ({"text": "a", "k": 10**9}, r"k \+ offset is 1,000,000,000: expected at most 100,000"),
    ({"text": "a", "k": 100_000, "offset": 1}, "k \\+ offset is 100,001"),
    ({"text": "a", "offset": -1}, "offset"),
    ({"text": "a", "colour": 1}, "colour: Extra inputs are not permitted"),
    ({"text": "a", "filter": "nope = 1"}, "No field named nope"),
    ({"text": "a", "filter": "DROP TABLE photos"}, "filter"),
    ({"text": "a", "modality": "sound"}, "modality"),
    ({"text": "a", "threshold": "x"}, "threshold"),
    ({"vector": V}, r"the vector has shape \[2\], the collection holds"),
    (b'{"vector": [NaN]}', "finite number"),
    ({"vector": "AAAA"}, "base64 of float32"),
    ({"vector": "%%%"}, "base64"),
    ({"image": "%%%"}, "isn't base64"),
    ({"image": "data:image/png,abc"}, "isn't base64"),
    ({"image": base64_of(b"no picture")}, "not a picture"),
    ({"image": base64_of(bomb())}, "too large|pixels"),
    ({"image_url": "file:///etc/passwd"}, "isn't a URL"),
    ({"image_url": "http://10.0.0.1/a.jpg"}, "isn't a public address"),
    ({"id": "nobody"}, "no row 'nobody'"),
    ({"mix": [{"text": "a"}], "minus": [{"text": "a"}]}, "cancel each other out"),
    ({"mix": [{"text": "a", "weight": 1e999}]}, "weight"),
    ({"mix": [{"text": "a"}] * 33}, "at most 32"),
]


@pytest.mark.parametrize(("body", "message"), BAD_SEARCHES)
def test_bad_searches_are_told_what_is_wrong(sidecar: Sidecar, search: Search, photos: str, body: object, message: str) -> None:
    status, answer = sidecar.ask("POST", "/v1/collections/photos/search", body)
    assert 400 <= status < 500
    assert re.search(message, answer["message"])
    assert answer["error"]["message"] == answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/v1/collections/none/search", {"text": "a"}, 404, "no collection none: there is photos"),
        ("GET", "/v1/collections/none", None, 404, "no collection none"),
        ("DELETE", "/v1/collections/none", None, 404, "no collection none"),
        ("GET", "/v1/collections/photos/rows/none", None, 404, "no row 'none'"),
        ("GET", "/v1/collections/photos/rows?limit=0", None, 400, "limit is 0"),
        ("GET", "/v1/collections/photos/rows?limit=x", None, 400, "limit: .*integer"),
        ("GET", "/v1/collections/photos/thumbnails/x", None, 400, "row: .*integer"),
        ("GET", f"/v1/collections/photos/thumbnails/{10**30}", None, 400, "row"),
        ("POST", "/v1/collections", {"name": "../x"}, 400, "the collection's name is '../x'"),
        ("POST", "/v1/collections", {"name": "photos"}, 409, "is there already"),
        ("POST", "/v1/collections", {"name": "a", "dimension": 0}, 400, "dimension"),
        ("POST", "/v1/collections", {"name": "a", "columns": {"row": "int"}}, 400, "column row is taken"),
        ("POST", "/v1/collections/photos/rows", {"rows": []}, 400, "rows: List should have at least 1 item"),
        ("POST", "/v1/collections/photos/rows", {"rows": [{}]}, 400, "nothing to embed"),
        ("POST", "/v1/collections/photos/rows", {"rows": [{"text": "a", "metadata": {"x": [1]}}]}, 400, "metadata"),
        ("POST", "/v1/collections/photos/rows", {"rows": [{"text": "a", "metadata": {"year": "x"}}]}, 400, "holds int64"),
        ("POST", "/v1/collections/photos/rows", {"rows": [{"id": "p1", "text": "a"}]}, 409, "'p1' is there already"),
        ("POST", "/v1/collections/photos/rows", {"rows": [{"vector": V}]}, 400, r"has shape \[2\]"),
        (
            "POST",
            "/v1/collections/photos/rows",
            {"rows": [{"text": "a"}], "fingerprint": "other"},
            409,
            "holds vectors of model",
        ),
        ("POST", "/v1/collections/photos/rows", b"x" * 5_000_000, 413, "the body has 5,000,000 bytes"),
        ("POST", "/v1/collections/photos/delete", {}, 400, "send either ids or a filter"),
        ("POST", "/v1/collections/photos/delete", {"filter": "nope = 1"}, 400, "No field named nope"),
        ("PUT", "/v1/collections", {}, 405, "Method Not Allowed"),
        ("GET", "/nothing/here", None, 404, "Not Found; see /docs"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    sidecar: Sidecar, search: Search, photos: str, method: str, path: str, body: object, status: int, message: str
) -> None:
    got, answer = sidecar.ask(method, path, body)
    assert got == status, answer
    assert re.search(message, answer["message"])


def test_a_body_without_a_length_is_bounded_too(sidecar: Sidecar) -> None:
    def endless() -> Iterator[bytes]:
        yield from (b"x" * 100_000 for _ in range(60))

    answer = requests.post(f"{sidecar.url}/v1/collections", data=endless(), timeout=20)
    assert answer.status_code == 413


def test_half_a_request_holds_up_nobody(sidecar: Sidecar) -> None:
    with socket.create_connection(("127.0.0.1", sidecar.port)) as half:
        half.sendall(b"POST /v1/collections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert sidecar.ask("GET", "/health/live")[0] == 200


def test_pages_of_other_sites_and_other_names_are_refused(sidecar: Sidecar) -> None:
    assert sidecar.ask("GET", "/v1/collections", Origin=sidecar.url)[0] == 200
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        status, answer = sidecar.ask("GET", "/v1/collections", **headers)
        assert status == 403
        assert "start" in answer["message"]


API = [
    ("GET", "/v1/collections"), ("GET", "/v1/collections/photos/rows?filter=1=1"), ("GET", "/v1/collections/a/thumbnails/0"),
    ("POST", "/v1/collections"), ("DELETE", "/v1/collections/photos"), ("POST", "/knn-service"), ("GET", "/indices-list"),
    ("POST", "/metadata"), ("GET", "/metrics"), ("GET", "/metrics-summary"), ("GET", "/health/live"), ("GET", "/health/ready"),
    ("POST", "/v1/embeddings"), ("GET", "/openapi.json"), ("HEAD", "/v1/collections"), ("OPTIONS", "/v1/collections"),
    ("PUT", "/v1/collections"), ("GET", "/no-such-route"), ("GET", "//page/x"), ("GET", "/v1/collections/page/"),
]  # fmt: skip


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "same-origin, cross-site", "anything"])
@pytest.mark.parametrize(("method", "path"), API)
def test_browsers_tell_of_pages_of_other_sites(sidecar: Sidecar, method: str, path: str, site: str) -> None:
    fetch = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Referer": "http://evil.example/x"}
    assert sidecar.ask(method, path, **fetch)[0] == 403


@pytest.mark.parametrize("site", ["same-origin", "none", None])
def test_the_page_itself_and_programs_go_on(sidecar: Sidecar, site: str | None) -> None:
    headers = {"Sec-Fetch-Site": site} if site else {}
    for path in ("/v1/collections", "/health/live", "/", "/page/icon.svg", "/docs"):
        assert sidecar.ask("GET", path, **headers)[0] == 200


@pytest.mark.parametrize("path", ["/", "/page/icon.svg", "/page/page.js", "/docs"])
def test_links_of_other_sites_lead_to_the_page(sidecar: Sidecar, path: str) -> None:
    assert sidecar.ask("GET", path, **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[0] in (200, 404)


def test_pages_that_were_allowed_go_on(server: Server, tmp_path: Path) -> None:
    with sidecars.running(tmp_path / "data", server.address, "--cors", "http://page.example") as sidecar:
        for headers, expected in (
            ({"Origin": "http://page.example"}, 200),
            ({"Referer": "http://page.example/a/b"}, 200),
            ({"Origin": "http://page.example", "Referer": "http://page.example/"}, 200),
            ({}, 403),
            ({"Origin": "http://page.example.evil"}, 403),
            ({"Referer": "http://page.example.evil/"}, 403),
            ({"Referer": "http://page.example@evil/"}, 403),
            ({"Origin": "http://page.example", "Referer": "http://evil.example/"}, 403),
        ):
            assert sidecar.ask("GET", "/v1/collections", **{"Sec-Fetch-Site": "cross-site"}, **headers)[0] == expected, headers
    with sidecars.running(tmp_path / "data", server.address, "--cors", "*") as sidecar:
        assert sidecar.ask("GET", "/v1/collections", **{"Sec-Fetch-Site": "cross-site"})[0] == 200


def test_a_token_is_asked_for_but_not_of_the_page_and_the_probes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    options = ["--token-file", str(tmp_path / "token"), "--cors", "http://page.example"]
    with sidecars.running(tmp_path / "data", server.address, *options) as sidecar:
        assert sidecar.ask("GET", "/")[0] == 200
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}, {"Authorization": "Bearer ü"}):
            status, answer = sidecar.ask("GET", "/v1/collections", **header)
            assert (status, answer["message"][:9]) == (401, "the token")
        with sidecar.client(token="s3cret") as search:
            assert search.collections() == []
        for token in ("", "wrong"):
            with sidecar.client(token=token) as search, pytest.raises(Unauthorized, match="the token is missing or wrong"):
                search.collections()
        answer = requests.options(
            f"{sidecar.url}/v1/collections", headers={"Origin": "http://page.example", "Access-Control-Request-Method": "GET"}
        )
        assert answer.headers["Access-Control-Allow-Origin"] == "http://page.example"


# without Triton


def test_without_triton_vectors_are_searched_and_texts_can_wait(server: Server, tmp_path: Path) -> None:
    with sidecars.running(tmp_path, "127.0.0.1:9") as sidecar, sidecar.client() as search:
        assert list(sidecar.missing()) == ["triton"]
        assert sidecar.ask("GET", "/health/ready")[0] == 503
        with pytest.raises(Unavailable, match="can't be reached"):
            search.create("a")
        with pytest.raises(Unavailable, match=r"isn't ready within 0.2 s: triton: .*127.0.0.1:9"):
            search.wait_ready(timeout_s=0.2)
        search.create("a", dimension=4, fingerprint="f")
        search.add("a", [Row(id="x", vector=[1, 0, 0, 0])])
        assert ids(search.query("a", Term(vector=[1, 0, 0, 0]))) == ["x"]
        answer = requests.post(f"{sidecar.url}/v1/collections/a/search", json={"text": "a cat"}, timeout=20)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert sidecar.ask("GET", "/health/live")[0] == 200


def test_another_model_is_refused_with_the_command_that_embeds_again(sidecar: Sidecar, search: Search, spec: ModelSpec) -> None:
    search.create("old", dimension=spec.embedding_size, fingerprint="0123456789abcdef")
    with pytest.raises(ContractMismatch, match=f"0123456789abcdef, got {spec.fingerprint}: .*clipserve search add FOLDER"):
        search.query("old", "a cat")
    with pytest.raises(ContractMismatch, match="clipserve search add FOLDER"):
        search.add("old", [Row(image=encoded(picture(30, 30)))])
    assert search.query("old", Term(vector=np.ones(spec.embedding_size))) == []


def test_the_sdk_says_when_nobody_is_there() -> None:
    with pytest.raises(Unavailable, match="clipserve search serve"), Search("http://127.0.0.1:9") as search:
        search.collections()
    with pytest.raises(Unavailable, match="no answer from a sidecar"), Search("http://127.0.0.1:9") as search:
        search.wait_ready(timeout_s=0.2)
    with pytest.raises(InvalidInput, match="expected http://host:port"):
        Search("localhost:1234")
    with pytest.raises(InvalidInput, match="expected one of text, image"):
        Term(text="a", id="b").to_json()
    assert json.dumps(Row(text="a").to_json()) == '{"text": "a", "metadata": {}}'
