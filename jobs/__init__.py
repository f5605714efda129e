"""The functions that can be run as jobs: every public function defined in a module here."""
