"""Builds: artefacts of variants, made once, judged by the gate, timed, and kept until something changes."""
