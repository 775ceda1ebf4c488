"""What an application declares, and the checks that find a mistake at the line that makes it."""
