"""What holds for every test, also where no conftest is read, as for the domain on its own."""

from hypothesis import HealthCheck, settings

# A law holds or does not; how long the machine takes to look is no part of it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
