"""What happens to jobs that are there: cancel, requeue, delete, change, bulk; recovery, the outbox, and clean-up."""
