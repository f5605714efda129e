"""RQ 2.12's own tests fail under our worker exactly where expected_failures.txt says, and why."""

import pytest

from tests.rq_suite import suite

EXPECTED = suite.expected_failures()


@pytest.mark.parametrize("file", suite.FILES)
def test_rq_s_tests_fail_only_where_expected(file: str) -> None:
    outcome = suite.run(file)
    expected = {test for test in EXPECTED if test.startswith(f"{file}::")}

    wrong = [
        f"{test} fails, and is not expected to\n{outcome.failures[test]}" for test in outcome.failures.keys() - expected
    ]
    wrong += [f"{test} is expected to fail, and does not" for test in sorted(expected - outcome.failures.keys())]
    wrong += [outcome.trouble] if outcome.trouble else []
    if wrong:
        pytest.fail("\n\n".join(wrong), pytrace=False)
    assert outcome.passed > 0


def test_every_expected_failure_has_a_reason_and_is_of_a_file_that_is_run() -> None:
    assert [test for test, reason in EXPECTED.items() if not reason] == []
    assert [test for test in EXPECTED if test.partition("::")[0] not in suite.FILES] == []
