"""What a report is made of, and when it is written."""
