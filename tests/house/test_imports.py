"""The house stands: packages import, and only downwards (lint-imports runs beside this in `make check`)."""

import discovery
import gateway
import policies


def test_the_three_packages_say_what_they_are_for():
    for package in (discovery, policies, gateway):
        assert package.__doc__
