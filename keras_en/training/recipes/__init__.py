"""The recipes that the commands train."""
