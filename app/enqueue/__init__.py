"""The one way into RQ: a new job, what makes it unique, what makes a request act once, and the step that writes it."""
