"""`model-forensics completion`"""

from __future__ import annotations

import click

PROGRAM = "model-forensics"
VARIABLE = "_MODEL_FORENSICS_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and their values in SHELL.

    \b
    Examples:
      model-forensics completion bash > ~/.local/share/bash-completion/completions/model-forensics
      model-forensics completion zsh > ~/.zfunc/_model-forensics
      model-forensics completion fish > ~/.config/fish/completions/model-forensics.fish
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415  (keeps --help fast)

    completer = get_completion_class(shell)
    assert completer is not None, "the shells are those that click knows"
    click.echo(completer(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
