"""Former module names of the package, with the present ones."""

NOW = {
    "door": "http_gateway",
    "watch": "process_watch",
}
