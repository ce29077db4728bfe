"""Former module names of the package, with the present ones."""

NOW = {
    "arguments": "argument_types",
    "door": "command_runner",
    "exchange": "model_exchange",
}
