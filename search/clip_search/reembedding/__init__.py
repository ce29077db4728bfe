"""Second sets of vectors: a collection goes over to a model of another space while it is searched and changed."""
