"""`model-forensics`: registers the commands. Each command's module is imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "analyze": "Find the cause of an incident and prove it.",
    "batch": "Analyze every incident of a directory.",
    "build-baseline": "Fit a baseline from benign bundles.",
    "completion": "Print the script that completes commands in a shell.",
    "compress-bundles": "Compress old bundles without loss.",
    "demo": "Analyze the incident that ships with the package.",
    "diff": "Show what differs between two incidents or two results.",
    "info": "Show versions, devices, backends and the configuration.",
    "inspect": "Show what a bundle holds.",
    "migrate-config": "Bring an older configuration file up to date.",
    "rekey": "Change the key that bundles, baselines and results are encrypted with.",
    "report": "Render a results file as HTML.",
    "stats": "Show what analyses found and how long they took.",
    "test": "Check that this installation works.",
    "triage": "Rank a directory of bundles.",
    "validate-fix": "Run a result's proof again.",
}


class LazyGroup(click.Group):
    """Lists commands from a table, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"model_forensics.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        from model_forensics.cli.exits import named_exits  # noqa: PLC0415  (keeps --help fast)

        with named_exits():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-forensics")
def main() -> None:
    """Find where in a foundation model a computation went wrong, and prove it."""
