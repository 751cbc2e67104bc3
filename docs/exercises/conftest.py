"""Say in one line why tasks were skipped."""


def pytest_terminal_summary(terminalreporter) -> None:
    """Count the tasks without an answer; several checks may belong to one."""
    skipped = terminalreporter.stats.get("skipped", [])
    tasks = {report.nodeid.partition("::")[2].partition("[")[0] for report in skipped}
    if tasks:
        terminalreporter.write_line(
            f"{len(tasks)} tasks have no answer yet: write them in docs/exercises/answers.py"
        )
