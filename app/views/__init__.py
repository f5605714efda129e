"""What is known of jobs, queues and workers, as JSON."""
