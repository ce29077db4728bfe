"""Methods of a client that other libraries call, and its pickle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from clip_client.client_variables import TOKEN
from clip_client.pickles import reduced

if TYPE_CHECKING:
    from functools import partial

    from clip_client.clip import Clip
    from clip_client.integrations.columns import ColumnMapper


class LibraryMethods:
    """Part of :class:`clip_client.Clip` that other libraries use."""

    _opening: partial[Clip]
    """Call that makes such a client, without secrets: a pickle is made of it."""
    _secrets: Sequence[str] = ()
    """Names of the secret arguments that this client was made with."""

    def map_images(
        self, column: str = "image", *, embedding: str = "image_embedding", error: str = "image_error"
    ) -> ColumnMapper:
        """Return a function for ``Dataset.map`` of Hugging Face's datasets that embeds a column of images.

        >>> pictures.map(clip.map_images("image"), batched=True)

        The column holds images of the feature ``Image`` (they aren't decoded here), encoded bytes, paths or URLs. The function
        can be pickled, for ``num_proc``, and has a stable fingerprint, for the cache.

        Args:
            column: to read.
            embedding: new column, float32 [D] each, of unit length; empty where an image can't be embedded.
            error: new column with the reason there; ``""`` elsewhere.

        Raises:
            InvalidInput: the names can't be used.
            Unavailable: the server is down.
        """
        return _mapper(self, "image", column, embedding, error)

    def map_texts(self, column: str = "text", *, embedding: str = "text_embedding", error: str = "text_error") -> ColumnMapper:
        """Return a function for ``Dataset.map`` that embeds a column of texts; as :meth:`map_images`."""
        return _mapper(self, "text", column, embedding, error)

    def encode(
        self,
        inputs: Any,
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = True,
    ) -> Any:
        """Embed texts and images as ``SentenceTransformer.encode`` does.

        >>> clip.encode(["two dogs", Image.open("dogs.jpg")])

        Args:
            inputs: one input, or a list in any order: a str is a text; a PIL image, a uint8 array [H, W, 3] or a
                ``pathlib.Path`` is an image; ``{"text": …}`` and ``{"image": …}`` take what :meth:`embed_text` and
                :meth:`embed_image` do.
            batch_size: an eighth of the inputs that are read at once; results don't depend on it.
            normalize_embeddings: makes no difference: embeddings have unit length.

        Returns:
            float32 [D] for one input, [N, D] for a list; a torch tensor with ``convert_to_tensor``, a list of tensors with
            neither of the two.

        Raises:
            InvalidInput: an input can't be embedded; ``errors`` maps its position to the reason.
            Unavailable: the server is down, or torch or tqdm was asked for and isn't installed.
        """
        from clip_client.integrations.encoding import Encoding, encode

        options = Encoding(batch_size, bool(show_progress_bar), convert_to_numpy, convert_to_tensor)
        return encode(cast("Clip", self), inputs, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self._opening, self._secrets, TOKEN)


def _mapper(clip: Any, *arguments: Any) -> ColumnMapper:
    from clip_client.integrations.columns import ColumnMapper

    return ColumnMapper(clip, *arguments)
