"""How fast, how small and how hard to kill Jobline is, beside stock RQ and other Redis job queues."""
