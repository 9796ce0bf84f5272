"""The subcommands of `streamwatch`: one module each, with `add_parser` and `run`."""
