"""Start the Autobahn|Testsuite from a private directory. Runs under Python 2.7: the suite is Python 2 code.

    python2.7 fuzzing_client.py SITE --list            print the ids of all cases as JSON
    python2.7 fuzzing_client.py SITE SPEC              run the fuzzing client with the specification in SPEC

The suite itself is used unchanged. SITE is added with addsitedir() and not through PYTHONPATH, because the
namespace packages in it come with .pth files that only addsitedir() reads.
"""

from __future__ import print_function  # noqa: UP010

import json
import site
import sys


def main():
    directory, request = sys.argv[1:3]
    sys.path.insert(0, directory)
    site.addsitedir(directory)
    if request == "--list":
        listing = sys.stdout
        sys.stdout = sys.stderr  # the suite prints while it is imported
        import autobahntestsuite.wstest  # noqa: F401 (puts the suite's own modules on the path)
        from autobahntestsuite import caseset, fuzzing

        cases = caseset.CaseSet(
            fuzzing.CaseSetname,
            fuzzing.CaseBasename,
            fuzzing.Cases,
            fuzzing.CaseCategories,
            fuzzing.CaseSubCategories,
        )
        json.dump(cases.parseSpecCases({"cases": ["*"]}), listing)
        return
    sys.argv = ["wstest", "--mode", "fuzzingclient", "--spec", request]
    from autobahntestsuite.wstest import run

    run()


if __name__ == "__main__":
    main()
