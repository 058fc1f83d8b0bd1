"""`python -m reelseek`: the command line."""

from reelseek.cli.main import main

main()
