"""Bodies and answers of the routes that compare and classify, those of Roboflow's inference among them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from typing_extensions import TypedDict

from clip_client.prompt_templates import DEFAULT, TEMPLATES
from clip_client.spec import Tower
from clip_search.web.embedding_inputs import MOST
from clip_search.web.request_models import Body
from clip_search.web.response_models import RowError

MOST_LABELS = 1_000
_IMAGE = "an http(s) URL, or an encoded file in base64 or as a data: URI"
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"  # a red pixel


def _shape(sent: Any) -> str:
    """Tell the shape of items before they are checked, so that an error names no other's."""
    if isinstance(sent, list):
        return "list"
    return "names" if isinstance(sent, dict) and not sent.keys() >= {"type", "value"} else "one"


def _count(sent: Any) -> str:
    """Tell one item from a list; as :func:`_shape`."""
    return "list" if isinstance(sent, list) else "one"


Items: TypeAlias = Annotated[
    Annotated[str, Tag("one")] | Annotated[list[str], Field(max_length=MOST), Tag("list")],
    Discriminator(_count),
]


def _example(content: Mapping[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [dict(content)]})


class Comparison(Body):
    """Request to compare one or several subjects with one or several prompts."""

    model_config = _example({"subject": f"data:image/png;base64,{_DOT}", "prompt": ["something red", "something blue"]})

    subject: Annotated[Items, Field(description=f"one or a list; an image is {_IMAGE}")]
    prompt: Annotated[Items, Field(description="one or a list, as the subject")]
    subject_type: Tower = "image"
    prompt_type: Tower = "text"


class SideError(TypedDict):
    """Reason why a subject or a prompt can't be embedded; ``index`` is its position."""

    side: Literal["subject", "prompt"]
    index: int
    message: str


class Compared(TypedDict):
    """Comparison of N subjects with M prompts, as lists of N lists of M numbers, also where one was sent.

    A subject that can't be embedded has null for its list, a prompt null in each list. With softmax, probabilities sum to 1
    over the prompts that could be embedded; with sigmoid each pair stands for itself.
    """

    cosines: list[list[float | None] | None]
    probabilities: list[list[float | None] | None]
    errors: list[SideError]
    model: str
    fingerprint: str


class Classification(Body):
    """Request to classify one or several images by labels."""

    model_config = _example({"images": f"data:image/png;base64,{_DOT}", "labels": ["square", "circle"], "top": 1})

    images: Annotated[Items, Field(description=f"one or a list, each {_IMAGE}")]
    labels: Annotated[list[str], Field(max_length=MOST_LABELS, description="at least one")]
    templates: Annotated[
        Annotated[str, Tag("one")] | Annotated[list[str], Field(max_length=MOST_LABELS), Tag("list")],
        Discriminator(_count),
        Field(description=f"sentences with {{}} for the label, or one of {', '.join(TEMPLATES)}"),
    ] = DEFAULT
    top: Annotated[int, Field(ge=1, description="labels of each image")] = 5


class LabelScore(TypedDict):
    """Label of an image: its probability among the labels, and its cosine."""

    label: str
    probability: float
    cosine: float


class ImageLabels(TypedDict):
    """Image by its position in the request, and its likeliest labels."""

    index: int
    labels: list[LabelScore]


class Classified(TypedDict):
    """Images in their order; results and errors together are as many as the images that were sent."""

    results: list[ImageLabels]
    errors: list[RowError]
    model: str
    fingerprint: str


class InferenceImage(BaseModel):
    """Image as Roboflow's inference takes it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Annotated[Literal["base64", "url"], Field(description="an encoded file in base64, or an http(s) URL")]
    value: str


_Item: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[InferenceImage, Tag("image")],
    Discriminator(lambda sent: "text" if isinstance(sent, str) else "image"),
]


class InferenceRequest(BaseModel):
    """Base of Roboflow's requests; version and key of a model there are passed over, as is all that isn't known."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())

    clip_version_id: Annotated[Any, Field(description="is passed over: the served model answers")] = None


class InferenceImages(InferenceRequest):
    """Request for embeddings of images."""

    model_config = _example({"image": {"type": "base64", "value": _DOT}})

    image: Annotated[
        Annotated[InferenceImage, Tag("one")] | Annotated[list[InferenceImage], Field(max_length=MOST), Tag("list")],
        Discriminator(_count),
    ]


class InferenceTexts(InferenceRequest):
    """Request for embeddings of texts."""

    model_config = _example({"text": ["a cat", "a dog"]})

    text: Annotated[
        Annotated[str, Tag("one")] | Annotated[list[str], Field(max_length=MOST), Tag("list")],
        Discriminator(_count),
    ]


class InferenceComparison(InferenceRequest):
    """Request to compare a subject with prompts: one, a list, or by names of the caller's."""

    model_config = _example({"subject": {"type": "base64", "value": _DOT}, "prompt": {"cat": "a cat", "dog": "a dog"}})

    subject: _Item
    prompt: Annotated[
        Annotated[_Item, Tag("one")]
        | Annotated[list[_Item], Field(max_length=MOST), Tag("list")]
        | Annotated[dict[str, _Item], Field(max_length=MOST), Tag("names")],
        Discriminator(_shape),
    ]
    subject_type: Tower = "image"
    prompt_type: Tower = "text"


class InferenceEmbeddings(TypedDict):
    """Embeddings of unit length, and the seconds that they took."""

    inference_id: None
    frame_id: None
    time: float
    embeddings: list[list[float]]


class InferenceSimilarity(TypedDict):
    """Cosines, by the names of the prompts if they had some, and the seconds that they took."""

    inference_id: None
    frame_id: None
    parent_id: None
    time: float
    similarity: list[float] | dict[str, float]
