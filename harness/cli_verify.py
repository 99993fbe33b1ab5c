"""The verify command: parse, call, print."""

import click

from harness.cli_common import bench_for, common_options


@click.command("verify")
@click.option("--local-only", is_flag=True, help="Ask nothing of the remote.")
@common_options
def verify(local_only: bool, remote: str | None, profile: str | None, as_json: bool) -> None:
    """Check every claim of the ledger: files here by hash, kernels, datasets and submissions there.

    Changes nothing. Exit code 1 when something is not as claimed, with what to do about it.

    \b
    Examples:
      harness verify
      harness verify --local-only
      harness verify --remote kaggle --json
    """
    from harness.commands.verify import verify as run_verify
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        claims = run_verify(bench, local_only)
        wrong = [claim for claim in claims if not claim.holds]
        if as_json:
            print_json({"checked": len(claims), "wrong": len(wrong), "claims": claims})
        else:
            for claim in wrong:
                click.echo(f"{claim.status}: {claim.what}: {claim.detail}. Next: {claim.next_step}")
            unclear = [claim for claim in claims if claim.status == "open"]
            for claim in unclear:
                click.echo(f"open: {claim.what}: {claim.detail}")
            click.echo(f"{len(claims)} claims checked, {len(wrong)} wrong, {len(unclear)} open")
    if wrong:
        click.get_current_context().exit(1)
