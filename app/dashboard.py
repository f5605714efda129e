"""stand-in"""


def mount(app, connection, authorize):
    pass
