"""What ``gensat evaluate`` runs: parts that measure, the networks they look through, and the report."""
