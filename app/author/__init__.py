"""What job authors import: `@job` and its options, progress, mail, storage, requests to other hosts."""
