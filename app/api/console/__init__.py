"""The web console: the page, its scripts and styles. In the browser it uses the public API alone."""
