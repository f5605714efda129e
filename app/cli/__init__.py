"""The command line: the HTTP API for people and scripts. A module a resource, loaded when it is used."""
