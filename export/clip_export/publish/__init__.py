"""Publishing: artefacts and their Triton configurations -> model repository."""
