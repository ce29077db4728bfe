"""Verbs about feedback: show, export and delete it, and compare the models that answered."""
