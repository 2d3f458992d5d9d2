"""`python -m polyana` is the `polyana` command."""

from polyana.cli import main

main()
