"""All recipes, in the order of the table."""

from __future__ import annotations

import hugging_face_clips
import open_clip_models
import other_families
from recipe import Recipe

RECIPES: list[Recipe] = [*hugging_face_clips.RECIPES, *open_clip_models.RECIPES, *other_families.RECIPES]

BY_ID = {recipe.id: recipe for recipe in (*RECIPES, *open_clip_models.NAMED, *other_families.NAMED)}
"""With those that are only named by others."""
