"""Vector search: engines, their parts, tuning."""
