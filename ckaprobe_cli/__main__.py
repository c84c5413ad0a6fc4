"""`python -m ckaprobe_cli`, as `torchrun -m` starts it."""

from ckaprobe_cli import main

main()
