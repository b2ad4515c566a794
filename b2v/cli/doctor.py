"""`b2v doctor`: whether everything is in order here, and what to do where it is not."""

import json
from dataclasses import asdict

import typer

from b2v.cli import options

NEXT_LINE = " " * 17 + "-> "


def command(as_json: options.Json = False) -> None:
    """Look whether b2v can do its work here, and say what to do about what is amiss.

    Versions, devices, codecs, memory, disk, cache, weights, and a small picture restored in
    the precision that is used here and in fp32. Exit code 1 if something fails.
    """
    from b2v.doctor import Finding, examine

    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            said = options.one_line(finding.said)
            typer.echo(f"{finding.state:5} {finding.name:10} {said}")
            if finding.advice:
                typer.echo(f"{NEXT_LINE}{finding.advice}")
    states = [finding.state for finding in findings]
    if as_json:
        report = {"ok": "fail" not in states, "findings": [asdict(one) for one in findings]}
        typer.echo(json.dumps(report))
    else:
        counts = [f"{states.count(state)} {state}" for state in ("ok", "warn", "fail")]
        options.note(", ".join(counts))
    if "fail" in states:
        raise typer.Exit(1)
