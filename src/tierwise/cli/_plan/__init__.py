"""What can be planned: ``cli/_plan/<goal>.py`` with a function ``command``."""
