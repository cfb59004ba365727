"""`python -m app`, which after a fail-over waits two seconds for calls under way: the simulator's take less."""

from app.accounts import catch_up
from app.cli import main

catch_up.CREATES_END_SECONDS = 2.0

if __name__ == "__main__":
    main()
