"""One command for everything: export, Triton, the search sidecar, pictures, the page; each part is a child process."""
