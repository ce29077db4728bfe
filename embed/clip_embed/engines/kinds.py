"""Kinds of engines by name."""

from __future__ import annotations

from contextlib import AbstractContextManager

from clip_embed.engines.base import Engine, EngineOptions


def opened(options: EngineOptions) -> AbstractContextManager[Engine]:
    """Open an engine; raises as :class:`clip_client.Clip` and :meth:`clip_client.Clip.local` do."""
    if options.kind == "triton":
        from clip_embed.engines.triton import Servers

        return Servers(options.addresses, options.name, options.patience_s)
    from clip_embed.engines.local import Local

    return Local(options)
