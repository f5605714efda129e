"""The command line: a client of the HTTP API, for people and scripts. One module per resource, imported when used."""
